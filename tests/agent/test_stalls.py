"""Whether an engine answers: what the agent asks a server, and what it reads in answers that are none."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from agent import answers, ports, stalls
from agent.processes import Process

KEY = "a key that is long"
OURS = [Process(os.getpid(), 0)]
SINGLE = ["/health", "/metrics", answers.REQUESTS]


class Engine:
    """A model: `silent` is what its guard tells, `steps` a counter of its engine, `answers` the status per route.

    `tells_all`: its guard knows the question for all that a look needs.
    """

    def __init__(self, *, tells_all: bool) -> None:
        self.tells_all = tells_all
        self.running = 0.0
        self.got: list[str] = []
        self.silent: Any = 20.0
        self.steps = 5
        self.moves = False
        self.answers: dict[str, int] = {}
        self.asked: list[tuple[str, Any]] = []
        self.ended = threading.Event()

    def get(self, path: str) -> tuple[int, bytes]:
        self.got.append(path)
        self.steps += self.moves
        text = f"process_cpu_seconds_total {id(object())}\nvllm:num_requests_running {self.running}\n"
        text += f"vllm:num_requests_waiting 0\nvllm:generation_tokens_total {self.steps}\n"
        known = {
            "/health": b"",
            "/metrics": text.encode(),
            answers.REQUESTS: json.dumps({"silent": self.silent}).encode(),
            answers.LOOK: json.dumps({"health": 200, "silent": self.silent}).encode() + b"\n" + text.encode(),
        }
        if path not in known or (path == answers.LOOK and not self.tells_all):
            return (401 if path == answers.LOOK else 404), b"{}"
        return 200, known[path]

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append((path, json.loads(body)))
        if path not in self.answers:
            self.ended.wait(20)
        return self.answers.get(path, 200), b"{}"


@pytest.fixture(params=[True, False], ids=["one question", "older guard"])
def engine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Engine]:
    for name, seconds in {"MOVES_WITHIN": 0.05, "PAUSE": 0.01, "PROBE_TIMEOUT": 0.2}.items():
        monkeypatch.setattr(stalls, name, seconds)
    yield (engine := Engine(tells_all=request.param))
    engine.ended.set()


def is_stalled(engine: Engine) -> bool:
    """Look at a model as a survey does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(*engine.get(self.path))

        def do_POST(self) -> None:
            self.reply(*engine.post(self.path, self.rfile.read(int(self.headers["content-length"]))))

        def reply(self, status: int, body: bytes) -> None:
            assert self.headers["authorization"] == (None if self.path == "/health" else f"Bearer {KEY}")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            model: Any = {"name": "q", "port": server.server_port}
            told = answers.ask(server.server_port, KEY, OURS)
            assert (told.health, told.load and told.load["running"]) == (200, engine.running)
            assert engine.got == ([answers.LOOK] if engine.tells_all else [answers.LOOK, *SINGLE])
            return stalls.is_stalled(model, KEY, OURS, told)
        finally:
            engine.ended.set()
            server.shutdown()


def test_a_model_that_answers_nothing_is_stalled(engine: Engine) -> None:
    assert is_stalled(engine)
    assert engine.asked == [("/v1/completions", {"model": "q", "prompt": "Hi", "max_tokens": 1})]


def test_an_engine_at_work_is_not_asked(engine: Engine) -> None:
    engine.moves, engine.running = True, 300.0
    assert not is_stalled(engine)
    assert engine.asked == []


@pytest.mark.parametrize("silent", [None, 0, 14.9], ids=str)
def test_a_model_that_answered_just_now_or_has_no_requests_is_not_asked(engine: Engine, silent: float | None) -> None:
    engine.silent = silent
    assert not is_stalled(engine)
    assert engine.asked == []


@pytest.mark.parametrize("silent", [None, "x", [], float("nan")], ids=str)
def test_requests_that_the_engine_never_ends_are_looked_at_too(engine: Engine, silent: Any) -> None:
    """Their client has gone, or the guard is an older one."""
    engine.silent, engine.running = silent, 1.0
    assert is_stalled(engine)


def test_a_model_that_answers_the_small_request_is_not_stalled(engine: Engine) -> None:
    engine.answers = {"/v1/completions": 200}
    assert not is_stalled(engine)


def test_a_model_of_another_kind_is_asked_for_what_it_is_for(engine: Engine) -> None:
    engine.answers = {"/v1/completions": 404}
    assert is_stalled(engine)
    assert [path for path, _ in engine.asked] == ["/v1/completions", "/v1/embeddings"]


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b"", 0),
        (b"\r\n\r\n", 0),
        (b"HTTP/1.1\r\n\r\n", 0),
        (b"HTTP/1.1 x OK\r\n\r\n", 0),
        (b"HTTP/1.1 2000\r\n\r\n", 0),
        (b"\x15\x03\x01\x00\x02\x02\x46", 0),  # of a server that expects TLS
        (b"SSH-2.0-OpenSSH_9.6\r\n", 0),
        (b"HTTP/1.1 200\r\n\r\n", 200),
        (b"HTTP/1.0 503 Service Unavailable", 503),
    ],
    ids=range(9),
)
def test_an_answer_that_is_not_http_is_none(said: bytes, read: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        assert ports.get(server.getsockname()[1], "/health")[0] == read
        thread.join()

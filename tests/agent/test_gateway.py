"""What a pod asks an engine before a gateway there sends it requests: who cannot prove to be the model gets no key."""

import hashlib
import hmac
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent import gateway, records

KEY, PROOF = "the-right-key-0123456789", b"p" * 32


class Engine(BaseHTTPRequestHandler):
    """A server that answers as `answers` says; `keys` are those that it was sent."""

    protocol_version = "HTTP/1.1"
    proves = accepts_all = refuses_all = hangs_up = False
    keys: list[str]

    def do_GET(self) -> None:
        if key := self.headers.get("Authorization"):
            self.keys.append(key.removeprefix("Bearer "))
        status, body = 200, b"{}"
        if "nonce=" in self.path:
            port = self.connection.getsockname()[1]
            message = f"{self.path.partition('nonce=')[2]} {port}".encode()
            known = PROOF if self.proves else b"another"
            body = json.dumps({"proofs": [hmac.new(known, message, hashlib.sha256).hexdigest()]}).encode()
        elif self.refuses_all or (not self.accepts_all and self.keys[-1:] != [KEY]):
            status = 401
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if self.hangs_up:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def engine(**traits: bool) -> Iterator[tuple[int, list[str]]]:
    handler = type("Handler", (Engine,), {**traits, "keys": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], handler.keys  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("traits", "reason", "sent"),
    [
        ({"proves": True}, "", [gateway.WRONG_KEY, KEY]),
        ({}, "another program answers", []),
        ({"accepts_all": True}, "another program answers", []),
        ({"proves": True, "accepts_all": True}, "it does not refuse a wrong key", [gateway.WRONG_KEY]),
        ({"proves": True, "refuses_all": True}, "it does not accept the key", [gateway.WRONG_KEY, KEY]),
    ],
    ids=["model", "other", "open", "careless", "strict"],
)
def test_only_the_model_is_sent_the_key(traits: dict[str, bool], reason: str, sent: list[str]) -> None:
    with engine(**traits) as (port, keys):
        assert gateway.ask("127.0.0.1", port, [PROOF.hex()], KEY) == reason
        assert keys == sent


def test_the_key_goes_over_the_proven_connection_only() -> None:
    with engine(proves=True, hangs_up=True) as (port, keys):
        assert gateway.ask("127.0.0.1", port, [PROOF.hex()], KEY).startswith("it cannot be reached")
        assert keys == []


def test_the_first_address_that_leads_to_the_model_is_used() -> None:
    with engine(proves=True) as (port, _), engine() as (other, _):
        asked: Any = {"id": "dc1/q", "hosts": ["127.0.0.2", "127.0.0.1"], "port": port, "proof_keys": [PROOF.hex()]}
        assert gateway.probe(asked, KEY) == {"id": "dc1/q", "url": f"http://127.0.0.1:{port}", "reason": None}
        elsewhere: Any = {**asked, "port": other, "hosts": ["127.0.0.1"]}
        nowhere: Any = {**asked, "hosts": []}
        refused = gateway.probe(elsewhere, KEY)
        assert refused["reason"] == f"at 127.0.0.1:{other} another program answers"
        assert gateway.probe(nowhere, KEY)["reason"] == "it has no private address"


class Metrics(BaseHTTPRequestHandler):
    """A balancer that counts `active` requests at one.example, one less at each look; the others are idle.

    `unhealthy`: the engines that it does not use.
    """

    active, unhealthy = 0, ""

    def do_GET(self) -> None:
        lines = []
        for url in WORKERS.values():
            health = int(url != self.unhealthy)
            active = self.active if url == WORKERS["dc1/q"] else 0
            lines += [f'smg_worker_health{{worker="{url}"}} {health}']
            lines += [f'smg_worker_requests_active{{worker="{url}",worker_type="regular"}} {active}']
        type(self).active = max(0, self.active - 1)
        body = "\n".join(lines).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


WORKERS = {"dc1/q": "http://one.example", "dc2/q": "http://two.example", "dc2/r": "http://three.example"}


@pytest.fixture
def balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, type[Metrics]]]:
    """A running gateway with three engines: its record, and what answers at its port for metrics."""
    monkeypatch.setattr(records, "PI", str(tmp_path))
    monkeypatch.setattr(records, "PLACE", str(tmp_path))
    counts = type("Counts", (Metrics,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), counts) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        record = {"uid": "gateway-1", "arguments": ["--prometheus-port", str(server.server_address[1])]}
        (tmp_path / "gateway").mkdir()
        gateway.write_manifest("gateway-1", WORKERS)
        yield record, counts
        server.shutdown()
        thread.join()


@contextmanager
def on_stdin(descriptor: int) -> Iterator[None]:
    before = os.dup(0)
    os.dup2(descriptor, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.fixture
def client_waits() -> Iterator[None]:
    """Keep stdin open, as pi does while it waits."""
    read, write = os.pipe()
    with on_stdin(read):
        yield
    os.close(read)
    os.close(write)


def left_by(balancer: tuple[Any, type[Metrics]], *ids: str, seconds: float = 30.0) -> set[str]:
    """Let engines leave; return which are in the manifest afterwards."""
    gateway.leave(balancer[0], list(ids), seconds)
    return set(gateway.manifest("gateway-1"))


@pytest.mark.usefixtures("client_waits")
def test_an_engine_leaves_and_its_answers_in_progress_are_awaited(balancer: tuple[Any, type[Metrics]]) -> None:
    balancer[1].active = 3
    assert left_by(balancer, "dc1/q") == {"dc2/q", "dc2/r"}
    assert balancer[1].active == 0


@pytest.mark.usefixtures("client_waits")
def test_an_engine_without_another_one_that_is_used_stays(balancer: tuple[Any, type[Metrics]]) -> None:
    assert left_by(balancer, "dc2/r") == left_by(balancer, "dc1/q", "dc2/q") == set(WORKERS)
    balancer[1].unhealthy = WORKERS["dc2/q"]
    assert left_by(balancer, "dc1/q", seconds=0.5) == set(WORKERS)


def test_an_engine_comes_back_if_pi_ends_while_it_waits(balancer: tuple[Any, type[Metrics]]) -> None:
    balancer[1].active = 1000
    with Path(os.devnull).open("rb") as closed, on_stdin(closed.fileno()):
        assert left_by(balancer, "dc1/q") == set(WORKERS)

"""What pi says when the Hub does not let the user have a model, or does not answer. The client is the real one."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pi_cli.diagnosis import causes
from pi_cli.errors import ModelNotStarted
from pi_cli.planning import hub
from tests.lab.hub import Hub
from tests.planning.hub_questions import Ask, asking, check, look, raised, refusal, silence
from tests.until import until

TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def stand_in() -> Iterator[Hub]:
    with Hub(gated={"meta/gated": TOKEN}) as stand_in:
        stand_in.add_synthetic("meta/gated", {"config.json": b"{}", "model.safetensors": 5})
        yield stand_in


class Elsewhere(ThreadingHTTPServer):
    """Something that is no Hub, or a bad one: it leaves each request to `answer`."""

    answer: Callable[["Asked"], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    """A request that awaits its `reply`."""

    server: Elsewhere

    def do_GET(self) -> None:
        self.server.answer(self)

    def do_HEAD(self) -> None:
        self.server.answer(self)

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere(("127.0.0.1", 0), Asked) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


# What the user may not have


@pytest.mark.parametrize("ask", [look, check])
@pytest.mark.parametrize("is_mirror", [False, True])
def test_a_gated_model_without_access_names_the_page_for_it(stand_in: Hub, ask: Ask, is_mirror: bool) -> None:
    stand_in.is_mirror = is_mirror
    error = refusal(ask, "meta/gated", stand_in, "hf_another")
    assert error.message == "cannot download `meta/gated`: the model is gated and HF_TOKEN has no access to it"
    assert error.hint == f"request access at {stand_in.url}/meta/gated with the account of your HF_TOKEN"
    assert "you are not in the authorized list" in error.log
    assert error.exit_code == 4


@pytest.mark.parametrize("ask", [look, check])
@pytest.mark.parametrize("is_mirror", [False, True])
def test_a_gated_model_without_a_token_says_what_is_lacking(stand_in: Hub, ask: Ask, is_mirror: bool) -> None:
    stand_in.is_mirror = is_mirror
    error = refusal(ask, "meta/gated", stand_in)
    assert error.message == "cannot download `meta/gated`: the model is gated and there is no HF_TOKEN"
    assert error.hint == f"request access at {stand_in.url}/meta/gated, then `export HF_TOKEN=…` of that account"


def test_a_mirror_that_sends_on_to_the_hub_for_a_file_gives_access_to_it(stand_in: Hub, elsewhere: Elsewhere) -> None:
    def answer(asked: Asked) -> None:
        if asked.path.endswith("/auth-check"):
            asked.reply(404)
        else:
            asked.reply(307, Location=stand_in.url + asked.path)

    elsewhere.answer = answer
    check("meta/gated", elsewhere.url, TOKEN)
    assert stand_in.requests == []


@pytest.mark.parametrize("ask", [look, check])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_model_that_is_not_there_is_called_so(stand_in: Hub, ask: Ask, token: str | None) -> None:
    error = refusal(ask, "no/such", stand_in, token)
    words = "there is no model `no/such` on the Hugging Face Hub, or it is private"
    assert error.message == f"cannot download `no/such`: {words}"
    assert error.hint == "check the name, and that HF_TOKEN may read it"
    assert error.log == ("Repository not found" if token else "")


def test_a_guess_is_not_waited_for(elsewhere: Elsewhere) -> None:
    enough = threading.Event()

    def answer(asked: Asked) -> None:
        if "?author=" in asked.path:
            enough.wait(60)
        asked.reply(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    elsewhere.answer = answer
    error = raised(ModelNotStarted, look, "no/such", elsewhere.url, TOKEN, 3)
    enough.set()
    assert error.hint == "check the name, and that HF_TOKEN may read it"


@pytest.mark.parametrize("typed", ["Qwen/Qwen2.5-7B-Instrcut", "qwen2/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct"])
def test_a_misspelt_model_is_guessed(stand_in: Hub, typed: str) -> None:
    for name in ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B", "google/gemma-3-27b-it"):
        stand_in.add_synthetic(name, {})
    hint = "did you mean `Qwen/Qwen2.5-7B-Instruct`? If not, check the name, and that HF_TOKEN may read it"
    assert refusal(check, typed, stand_in).hint == hint


@pytest.mark.parametrize("name", ["a b/c", "a/b/c", "datasets/..", "qwen; rm -rf ~", "q\nq"])
def test_what_cannot_be_a_name_is_not_asked_for(stand_in: Hub, name: str) -> None:
    assert "there is no model" in refusal(look, name, stand_in).message
    assert stand_in.requests == []


@pytest.mark.parametrize("ask", [look, check])
def test_a_token_that_is_none_says_where_to_get_one(stand_in: Hub, ask: Ask) -> None:
    stand_in.revoked.add("hf_old")
    error = refusal(ask, "meta/gated", stand_in, "hf_old")
    assert error.message == "cannot download `meta/gated`: the Hugging Face Hub does not accept HF_TOKEN"
    assert error.hint == "create a token at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`"


def test_the_same_happens_to_hf_download_on_a_pod_in_the_same_words(stand_in: Hub) -> None:
    stand_in.revoked.add("hf_old")
    for model, token in (("meta/gated", "hf_another"), ("meta/gated", "hf_old"), ("no/such", TOKEN)):
        error = refusal(look, model, stand_in, token)
        cause = causes.find(error.log, pod="dc1", model=model)
        assert cause is not None
        assert error.message == f"cannot download `{model}`: {cause.summary}"
        assert error.hint == (cause.hint or "").replace("https://huggingface.co/meta", f"{stand_in.url}/meta")


# A Hub that does not tell


@pytest.mark.parametrize("ask", [look, check])
def test_a_hub_that_is_not_there(ask: Ask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    error = silence(ask, "some/model", url)
    assert error.message == f"cannot ask the Hugging Face Hub at {url}: Connection refused"
    assert error.hint == "check this machine's network and, if they are set, HF_ENDPOINT and HTTPS_PROXY"


@pytest.mark.parametrize("ask", [look, check])
def test_a_hub_that_says_nothing_is_not_waited_for(ask: Ask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        error = silence(ask, "some/model", url, timeout=1)
        assert time.monotonic() - began < 5
    assert error.message == f"cannot ask the Hugging Face Hub at {url}: it did not answer in time"
    until(lambda: not asking())


def test_a_hub_that_speaks_slowly_is_not_waited_for(stand_in: Hub) -> None:
    stand_in.add_synthetic("some/model", {"config.json": json.dumps({"vocabulary": "a" * 100_000}).encode()})
    stand_in.rate = 1_000
    began = time.monotonic()
    assert silence(look, "some/model", stand_in, timeout=2).reason == "it did not answer in time"
    assert time.monotonic() - began < 10


def test_who_stops_asking_is_free_at_once() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        async def lose_patience() -> None:
            async with asyncio.timeout(0.5):
                await hub.describe("some/model", token=None, endpoint=url, timeout=100)

        began = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(lose_patience())
        assert time.monotonic() - began < 10
        connection, _ = server.accept()
    connection.close()
    until(lambda: not asking())


@pytest.mark.parametrize("ask", [look, check])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "it limits our rate"),
        (500, "it answered 500 Internal Server Error"),
        (503, "it answered 503 Service Unavailable"),
    ],
)
def test_a_hub_that_fails_is_asked_once(stand_in: Hub, ask: Ask, status: int, reason: str) -> None:
    stand_in.failing = status
    assert silence(ask, "some/model", stand_in).reason == reason
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    "body", [b"<html>Please log in to this hotel's network</html>", b'{"id": "some/model", "siblings": [1]}']
)
def test_something_else_at_that_address(elsewhere: Elsewhere, body: bytes) -> None:
    elsewhere.answer = lambda asked: asked.reply(200, body)
    assert silence(look, "some/model", elsewhere.url).reason == "it does not answer as a Hub does"


def test_an_address_that_is_none() -> None:
    error = silence(look, "some/model", "huggingface.co")
    assert error.reason == "Request URL is missing an 'http://' or 'https://' protocol."


def test_offline_it_asks_nobody() -> None:
    program = (
        "import asyncio; from pi_cli.planning import hub\n"
        "try: asyncio.run(hub.describe('meta/gated', token=None, endpoint=None))\n"
        "except hub.HubUnreachable as error: print(error.reason)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "HF_HUB_OFFLINE is set\n"


def test_for_the_number_of_parameters_it_is_not_waited(elsewhere: Elsewhere) -> None:
    enough = threading.Event()

    def answer(asked: Asked) -> None:
        if asked.path.endswith(".safetensors"):
            enough.wait(60)
        files = [{"rfilename": "w.safetensors", "size": 5}]
        asked.reply(200, json.dumps({"id": "some/model", "siblings": files}).encode())

    elsewhere.answer = answer
    found = look("some/model", elsewhere.url, timeout=3)
    enough.set()
    assert (found.weights, found.dtypes) == (5, {})


def test_a_server_that_knows_no_parts_of_files_is_hung_up_on(elsewhere: Elsewhere) -> None:
    sent: list[int] = []

    def answer(asked: Asked) -> None:
        if asked.path.endswith(".safetensors"):
            asked.send_response(200)
            asked.send_header("Content-Length", "100000000")
            asked.end_headers()
            with suppress(OSError):
                while sum(sent) < 100_000_000:
                    sent.append(asked.wfile.write(bytes(100_000)))
        else:
            files = [{"rfilename": "w.safetensors", "size": 100_000_000}]
            asked.reply(200, json.dumps({"id": "some/model", "siblings": files}).encode())

    elsewhere.answer = answer
    found = look("some/model", elsewhere.url)
    assert (found.weights, found.dtypes) == (100_000_000, {})
    assert sum(sent) < 50_000_000


# What stays secret


def test_the_token_does_not_follow_to_another_host(stand_in: Hub, elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda asked: asked.reply(307, Location=stand_in.url + asked.path)
    refusal(look, "meta/gated", elsewhere.url, TOKEN)
    assert stand_in.requests
    assert {request.headers.get("authorization") for request in stand_in.requests} == {None}


def test_the_token_is_not_shown_with_what_is_asked() -> None:
    assert TOKEN not in repr(hub._question("meta/gated", TOKEN, None, 1))


@pytest.mark.parametrize("token", [TOKEN, f"{TOKEN}\n", f"{TOKEN} x", f"{TOKEN}é"])
def test_the_token_is_in_no_error(stand_in: Hub, token: str) -> None:
    stand_in.revoked.add(TOKEN)
    for ask, model in ((look, "meta/gated"), (check, "meta/gated"), (look, "no/such")):
        error: BaseException | None = refusal(ask, model, stand_in, token)
        while error is not None:
            assert TOKEN not in f"{error} {error!r} {error.args} {getattr(error, 'hint', '')} {vars(error)}"
            error = error.__cause__ or error.__context__


def test_a_password_in_the_address_is_not_shown() -> None:
    error = silence(look, "some/model", "http://me:secret@127.0.0.1:1")
    assert error.message == "cannot ask the Hugging Face Hub at http://127.0.0.1:1: Connection refused"

"""The errors for a Hub that refuses access to a model, or that does not answer. The client is the real one."""

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
from pi_cli.errors import BadUsage, ModelNotStarted
from pi_cli.hub import hub_api
from tests.hub.hub_questions import Ask, asking, check, describe, raised, refusal, silence
from tests.lab.hub import Hub
from tests.until import until

TOKEN = "hf_secretsecretsecret"


@pytest.fixture
def stand_in() -> Iterator[Hub]:
    with Hub(gated={"meta/gated": TOKEN}) as stand_in:
        stand_in.add_synthetic("meta/gated", {"config.json": b"{}", "model.safetensors": 5})
        yield stand_in


class Elsewhere(ThreadingHTTPServer):
    """A server that is not a Hub, or a faulty one: `answer` handles each request."""

    answer: Callable[["Asked"], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    """A request, to be answered with `reply`."""

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
        """Log nothing."""


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere(("127.0.0.1", 0), Asked) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


# Models without access


@pytest.mark.parametrize("ask", [describe, check])
@pytest.mark.parametrize("is_mirror", [False, True])
def test_a_gated_model_without_access_names_the_page_for_it(stand_in: Hub, ask: Ask, is_mirror: bool) -> None:
    stand_in.is_mirror = is_mirror
    error = refusal(ask, "meta/gated", stand_in, "hf_another")
    assert error.message == "cannot download `meta/gated`: the model is gated and HF_TOKEN has no access to it"
    assert error.hint == f"request access at {stand_in.url}/meta/gated with the account of your HF_TOKEN"
    assert "you are not in the authorized list" in error.log
    assert error.exit_code == 4


@pytest.mark.parametrize("ask", [describe, check])
@pytest.mark.parametrize("is_mirror", [False, True])
def test_a_gated_model_without_a_token_asks_for_one(stand_in: Hub, ask: Ask, is_mirror: bool) -> None:
    stand_in.is_mirror = is_mirror
    error = refusal(ask, "meta/gated", stand_in)
    assert error.message == "cannot download `meta/gated`: the model is gated and there is no HF_TOKEN"
    assert error.hint == f"request access at {stand_in.url}/meta/gated, then `export HF_TOKEN=…` of that account"


def test_a_mirror_that_redirects_to_the_hub_gives_access(stand_in: Hub, elsewhere: Elsewhere) -> None:
    def answer(asked: Asked) -> None:
        if asked.path.endswith("/auth-check"):
            asked.reply(404)
        else:
            asked.reply(307, Location=stand_in.url + asked.path)

    elsewhere.answer = answer
    check("meta/gated", elsewhere.url, TOKEN)
    assert stand_in.requests == []


@pytest.mark.parametrize("ask", [describe, check])
@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_missing_model_is_reported_as_missing(stand_in: Hub, ask: Ask, token: str | None) -> None:
    error = refusal(ask, "no/such", stand_in, token)
    reason = "there is no model `no/such` on the Hugging Face Hub, or it is private"
    assert error.message == f"cannot download `no/such`: {reason}"
    assert error.hint == "check the name, and that HF_TOKEN may read it"
    assert error.log == ("Repository not found" if token else "")


def test_the_search_for_similar_names_does_not_delay_the_error(elsewhere: Elsewhere) -> None:
    enough = threading.Event()

    def answer(asked: Asked) -> None:
        if "?author=" in asked.path:
            enough.wait(60)
        asked.reply(404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")

    elsewhere.answer = answer
    error = raised(ModelNotStarted, describe, "no/such", elsewhere.url, TOKEN, 3)
    enough.set()
    assert error.hint == "check the name, and that HF_TOKEN may read it"


@pytest.mark.parametrize("misspelt", ["Qwen/Qwen2.5-7B-Instrcut", "qwen2/Qwen2.5-7B-Instruct", "Qwen2.5-7B-Instruct"])
def test_a_similar_name_is_suggested_for_a_misspelt_model(stand_in: Hub, misspelt: str) -> None:
    for name in ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B", "google/gemma-3-27b-it"):
        stand_in.add_synthetic(name, {})
    hint = "did you mean `Qwen/Qwen2.5-7B-Instruct`? If not, check the name, and that HF_TOKEN may read it"
    assert refusal(check, misspelt, stand_in).hint == hint


@pytest.mark.parametrize("ask", [describe, check])
@pytest.mark.parametrize(("path", "kind"), [("datasets", "dataset"), ("spaces", "space")])
def test_a_dataset_or_a_space_is_not_a_model(stand_in: Hub, ask: Ask, path: str, kind: str) -> None:
    stand_in.others["some/texts"] = path
    error = raised(BadUsage, ask, "some/texts", stand_in)
    assert error.message == f"`some/texts` is a {kind} of the Hugging Face Hub, not a model"
    assert error.hint == "`pi models` lists models"


@pytest.mark.parametrize("name", ["a b/c", "a/b/c", "datasets/..", "qwen; rm -rf ~", "q\nq"])
def test_an_invalid_name_is_refused_without_a_request(stand_in: Hub, name: str) -> None:
    assert "there is no model" in refusal(describe, name, stand_in).message
    assert stand_in.requests == []


@pytest.mark.parametrize("ask", [describe, check])
def test_the_error_for_an_invalid_token_says_where_to_create_one(stand_in: Hub, ask: Ask) -> None:
    stand_in.revoked.add("hf_old")
    error = refusal(ask, "meta/gated", stand_in, "hf_old")
    assert error.message == "cannot download `meta/gated`: the Hugging Face Hub does not accept HF_TOKEN"
    assert error.hint == "create a token at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`"


def test_a_failed_download_on_a_pod_gets_the_same_message_and_hint(stand_in: Hub) -> None:
    stand_in.revoked.add("hf_old")
    for model, token in (("meta/gated", "hf_another"), ("meta/gated", "hf_old"), ("no/such", TOKEN)):
        error = refusal(describe, model, stand_in, token)
        cause = causes.find(error.log, pod="dc1", model=model)
        assert cause is not None
        assert error.message == f"cannot download `{model}`: {cause.summary}"
        assert error.hint == (cause.hint or "").replace("https://huggingface.co/meta", f"{stand_in.url}/meta")


# A Hub that does not answer


@pytest.mark.parametrize("ask", [describe, check])
def test_a_hub_that_refuses_connections_is_unreachable(ask: Ask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    error = silence(ask, "some/model", url)
    assert error.message == f"cannot query the Hugging Face Hub at {url}: Connection refused"
    assert error.hint == "check this machine's network and, if they are set, HF_ENDPOINT and HTTPS_PROXY"


@pytest.mark.parametrize("ask", [describe, check])
def test_a_hub_that_never_answers_is_unreachable_after_the_timeout(ask: Ask) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        error = silence(ask, "some/model", url, timeout=1)
        assert time.monotonic() - began < 5
    assert error.message == f"cannot query the Hugging Face Hub at {url}: it did not answer in time"
    until(lambda: not asking())


def test_a_hub_that_answers_too_slowly_is_unreachable_after_the_timeout(stand_in: Hub) -> None:
    stand_in.add_synthetic("some/model", {"config.json": json.dumps({"vocabulary": "a" * 100_000}).encode()})
    stand_in.rate = 1_000
    began = time.monotonic()
    assert silence(describe, "some/model", stand_in, timeout=2).reason == "it did not answer in time"
    assert time.monotonic() - began < 10


def test_a_cancelled_request_returns_at_once() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"

        async def describe_for_half_a_second() -> None:
            async with asyncio.timeout(0.5):
                await hub_api.describe("some/model", token=None, endpoint=url, timeout=100)

        began = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(describe_for_half_a_second())
        assert time.monotonic() - began < 10
        connection, _ = server.accept()
    connection.close()
    until(lambda: not asking())


@pytest.mark.parametrize("ask", [describe, check])
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "rate limit exceeded"),
        (500, "it answered 500 Internal Server Error"),
        (503, "it answered 503 Service Unavailable"),
    ],
)
def test_a_hub_that_fails_gets_one_request(stand_in: Hub, ask: Ask, status: int, reason: str) -> None:
    stand_in.failing = status
    assert silence(ask, "some/model", stand_in).reason == reason
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize(
    "body", [b"<html>Please log in to this hotel's network</html>", b'{"id": "some/model", "siblings": [1]}']
)
def test_another_server_at_that_address_is_not_a_hub(elsewhere: Elsewhere, body: bytes) -> None:
    elsewhere.answer = lambda asked: asked.reply(200, body)
    assert silence(describe, "some/model", elsewhere.url).reason == "its answer is not that of a Hub"


def test_an_invalid_address_is_reported() -> None:
    error = silence(describe, "some/model", "huggingface.co")
    assert error.reason == "Request URL is missing an 'http://' or 'https://' protocol."


def test_no_request_is_sent_with_hf_hub_offline() -> None:
    program = (
        "import asyncio; from pi_cli.hub import hub_api\n"
        "try: asyncio.run(hub_api.describe('meta/gated', token=None, endpoint=None))\n"
        "except hub_api.HubUnreachable as error: print(error.reason)"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "HF_HUB_OFFLINE is set\n"


def test_the_number_of_parameters_does_not_delay_the_answer(elsewhere: Elsewhere) -> None:
    enough = threading.Event()

    def answer(asked: Asked) -> None:
        if asked.path.endswith(".safetensors"):
            enough.wait(60)
        files = [{"rfilename": "w.safetensors", "size": 5}]
        asked.reply(200, json.dumps({"id": "some/model", "siblings": files}).encode())

    elsewhere.answer = answer
    repository = describe("some/model", elsewhere.url, timeout=3)
    enough.set()
    assert (repository.weights, repository.dtypes) == (5, {})


def test_a_server_without_range_requests_is_disconnected(elsewhere: Elsewhere) -> None:
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
    repository = describe("some/model", elsewhere.url)
    assert (repository.weights, repository.dtypes) == (100_000_000, {})
    assert sum(sent) < 50_000_000


# What stays secret


def test_the_token_is_not_sent_to_another_host_after_a_redirect(stand_in: Hub, elsewhere: Elsewhere) -> None:
    elsewhere.answer = lambda asked: asked.reply(307, Location=stand_in.url + asked.path)
    refusal(describe, "meta/gated", elsewhere.url, TOKEN)
    assert stand_in.requests
    assert {request.headers.get("authorization") for request in stand_in.requests} == {None}


def test_the_token_is_not_in_the_repr_of_a_question() -> None:
    assert TOKEN not in repr(hub_api._question("meta/gated", TOKEN, None, 1))


@pytest.mark.parametrize("token", [TOKEN, f"{TOKEN}\n", f"{TOKEN} x", f"{TOKEN}é"])
def test_no_error_contains_the_token(stand_in: Hub, token: str) -> None:
    stand_in.revoked.add(TOKEN)
    for ask, model in ((describe, "meta/gated"), (check, "meta/gated"), (describe, "no/such")):
        error: BaseException | None = refusal(ask, model, stand_in, token)
        while error is not None:
            assert TOKEN not in f"{error} {error!r} {error.args} {getattr(error, 'hint', '')} {vars(error)}"
            error = error.__cause__ or error.__context__


def test_a_password_in_the_address_is_not_shown() -> None:
    error = silence(describe, "some/model", "http://me:secret@127.0.0.1:1")
    assert error.message == "cannot query the Hugging Face Hub at http://127.0.0.1:1: Connection refused"

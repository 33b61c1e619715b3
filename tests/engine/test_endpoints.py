"""A real vLLM's endpoint: official clients reach it through `pi forward` and `pi run`, and none without the key."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from tests.commands.staying import staying
from tests.conftest import KEY
from tests.engine.conftest import Engine
from tests.engine.test_main_job import ARGUMENTS, MODEL, vllm_processes
from tests.until import until

ALICE = "key-of-alice-alone"
KEYS = ("--api-key-env", "PI_API_KEY", "--api-key-env", "ALICE_KEY")
# A model as small as this one fills JSON with blanks for ever, where it is free to.
DENSE = ("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}')
STRANGERS = """
import http.client, select, socket, sys, time
key = sys.stdin.read()
opened = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) for _ in range(300)]
deadline, closed = time.monotonic() + 30, []
while len(closed) < 44 and time.monotonic() < deadline:
    closed = select.select(opened, [], [], 1)[0]
client = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=30)
client.request("GET", "/v1/models", headers={"Authorization": "Bearer " + key})
print(len(closed), closed == opened[:44], client.getresponse().status)
"""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
ROUTE = re.compile(r"Route: (/\S*?),")
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
WITH_OPENAI = """\
import os, openai
model = os.environ["OPENAI_MODEL"]
question = [{"role": "user", "content": "What is 2+2?"}]
with openai.OpenAI() as client:
    print(client.models.list().data[0].id)
    print(client.chat.completions.create(model=model, messages=question).choices[0].message.content.strip())
    pieces = client.chat.completions.create(model=model, messages=question, stream=True)
    print("".join(piece.choices[0].delta.content or "" for piece in pieces).strip())
    print(client.responses.create(model=model, input="What is 2+2?").output_text.strip())
"""
WITH_ANTHROPIC = """\
import os, anthropic
model = os.environ["ANTHROPIC_MODEL"]
ls = {"name": "ls", "description": "List a folder.", "input_schema": {
    "type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}
with anthropic.Anthropic() as client:
    question = [{"role": "user", "content": "What is 2+2?"}]
    told = client.messages.create(model=model, max_tokens=500, messages=question)
    print([block.type for block in told.content], told.content[-1].text.strip(), told.stop_reason)
    with client.messages.stream(model=model, max_tokens=500, messages=question) as stream:
        print("".join(stream.text_stream).strip())
    question = [{"role": "user", "content": "List the files in /srv/data"}]
    told = client.messages.create(model=model, max_tokens=500, messages=question, tools=[ls])
    print(told.stop_reason, [(block.name, block.input) for block in told.content if block.type == "tool_use"])
"""
WITH_CURL = """\
curl -sS "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "tiny", "messages": [{"role": "user", "content": "What is 2+2?"}]}'
"""


@pytest.fixture(scope="module")
def tiny(engine: Engine) -> Iterator[Engine]:
    """The pod with a model that listens on its loopback only, and takes two keys."""
    assert engine.setup.code == 0, engine.setup.err
    engine.settings["ALICE_KEY"] = ALICE
    started = engine.pi("start", MODEL, "--name", "tiny", "--private", *KEYS, "--vllm", *ARGUMENTS.split(), *DENSE)
    assert started.code == 0, started.err
    assert "ready `tiny` on `dc1`: through SSH only" in started.out
    yield engine
    engine.pi("stop", "--all")
    until(lambda: not vllm_processes(engine) and engine.pod.listening() == {22})


@pytest.fixture(scope="module")
def url(tiny: Engine) -> Iterator[str]:
    with staying("forward", "tiny", **tiny.settings) as forward:
        yield forward.prints()[0]


@contextmanager
def opened(url: str, key: str | None) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(trust_env=False, base_url=url.removesuffix("/v1"), headers=headers, timeout=60) as client:
        yield client


def routes(tiny: Engine, url: str) -> set[str]:
    """Return all paths that the running vLLM serves, as far as it tells: in its log, and in its description."""
    logged = set(ROUTE.findall(tiny.pi("logs", "tiny", "-n", "all", "--no-follow").out))
    with opened(url, KEY) as client:
        described = set(client.get("/openapi.json").json()["paths"])
    assert len(logged) > 20, "its log lists them"
    assert {"/invocations", "/v1/chat/completions", "/metrics"} <= logged | described
    return {re.sub(r"\{[^}]*\}", "x", path) for path in logged | described}


def answer_to_handshake(url: str, path: str) -> str:
    with socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=30) as connection:
        connection.sendall(HANDSHAKE.format(path=path).encode())
        return connection.recv(1000).decode("latin-1").partition("\r\n")[0]


def test_every_route_asks_for_the_key(tiny: Engine, url: str) -> None:
    """Fault 12: vLLM's own check leaves many open, `POST /invocations` among them."""
    paths = routes(tiny, url)
    with opened(url, None) as client:
        open_ = {
            (method, path, status)
            for path in paths - {"/health"}
            for method in METHODS
            if (status := client.request(method, path, json={} if method == "POST" else None).status_code) != 401
        }
        assert open_ == set()
        assert client.get("/health").status_code == 200
        wrong = {"Authorization": "Bearer another-key-entirely"}
        assert {client.get(path, headers=wrong).status_code for path in paths - {"/health"}} == {401}
    for path in [*sorted(paths), "/v1/realtime"]:
        assert re.match(r"HTTP/1\.1 40[13] ", answer_to_handshake(url, path)), path


def test_the_key_opens_what_vllms_own_check_would_have_left_open(url: str) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "What is 2+2?"}]}
    with opened(url, KEY) as client:
        assert "vllm:num_requests_running" in client.get("/metrics").text
        told = client.post("/invocations", json=body).json()
        assert told["choices"][0]["message"]["content"].strip() == "4"


@pytest.mark.parametrize("key", [KEY, ALICE])
def test_each_of_its_keys_is_good(url: str, key: str) -> None:
    with openai.OpenAI(base_url=url, api_key=key, http_client=httpx2.Client(trust_env=False)) as client:
        assert client.models.list().data[0].id == "tiny"


def test_three_hundred_strangers_do_not_keep_a_user_out(tiny: Engine) -> None:
    """Decision 25: this server's classes are the ones that the guard counts connections in."""
    [listed] = tiny.pi("list", "--json").json
    done = tiny.pod.run(f"python3 -c {shlex.quote(STRANGERS)} {listed['port']}", input=KEY)
    assert (done.stdout.split(), done.stderr) == (["44", "True", "200"], "")


def test_a_private_model_has_no_other_door(tiny: Engine) -> None:
    [listed] = tiny.pi("list", "--json").json
    assert (listed["status"], listed["url"]) == ("ready", None)
    with socket.socket() as probe:
        assert probe.connect_ex((tiny.pod.address, listed["port"])) != 0


def test_the_openai_sdk_works_under_pi_run(tiny: Engine) -> None:
    told = tiny.pi("run", "tiny", "--", sys.executable, "-c", WITH_OPENAI)
    assert (told.code, told.out.splitlines()) == (0, ["tiny", "4", "4", "4"]), told.err


def test_the_anthropic_sdk_works_under_pi_run(tiny: Engine) -> None:
    told = tiny.pi("run", "tiny", "--", sys.executable, "-c", WITH_ANTHROPIC)
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "['thinking', 'text'] 4 end_turn",
        "4",
        "tool_use [('ls', {'path': '/srv/data'})]",
    ]


def test_curl_works_under_pi_run(tiny: Engine) -> None:
    told = tiny.pi("run", "tiny", "--", "sh", "-c", WITH_CURL)
    assert told.code == 0, told.err
    assert told.json["choices"][0]["message"]["content"].strip() == "4"


def test_clients_work_with_what_pi_env_prints_while_a_forward_is_open(tiny: Engine, url: str) -> None:
    exports = tiny.pi("env", "tiny", "--shell", "bash")
    assert exports.out.splitlines()[0] == f"export OPENAI_BASE_URL={url}", exports.err
    for command in (f"exec {sys.executable} -c '{WITH_OPENAI}'", WITH_CURL):
        told = subprocess.run(
            ["sh", "-c", f"{exports.out}\n{command}"],
            capture_output=True,
            text=True,
            timeout=120,
            env={**tiny.settings, "PATH": os.environ["PATH"]},
        )
        assert told.returncode == 0, told.stderr
        assert "4" in told.stdout


def test_it_is_fit_for_agents(tiny: Engine) -> None:
    told = tiny.pi("check", "tiny", "--json")
    checks = {each["check"]: each for each in told.json["checks"]}
    assert (told.code, {name for name, each in checks.items() if not each["passed"]}) == (0, set()), checks
    assert checks["key accepted"]["reason"] == "a context of 32768 tokens"

"""The main job with real parts: real sshd, real apt, uv and `hf download`, a real vLLM, the real OpenAI client."""

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KEY, TOKEN
from tests.engine.conftest import Engine
from tests.until import until

MODEL = "tiny/qwen3-chat"
# What makes a tiny model on two CPU cores load quickly and answer as it was trained to.
ARGUMENTS = "--dtype float32 --max-model-len 32768 --max-num-seqs 16 --enforce-eager --kv-cache-memory-bytes 128M"
ARGUMENTS += " --enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3"
START = ("start", MODEL, "--name", "tiny", "--vllm", *ARGUMENTS.split())


def vllm_processes(engine: Engine) -> list[int]:
    return [process.pid for process in engine.pod.processes() if "PI_MODEL_UID" in process.environ]


@pytest.fixture
def clean(engine: Engine) -> Iterator[Engine]:
    """The pod, and afterwards the proof that the test has left nothing on it."""
    assert engine.setup.code == 0, engine.setup.err
    yield engine
    engine.pi("stop", "--all")
    until(lambda: not vllm_processes(engine) and engine.pod.listening() == {22})


def status(url: str, *, key: str | None = None, method: str = "GET") -> int:
    request = urllib.request.Request(url, method=method, data=b"{}" if method == "POST" else None)
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def told(url: str) -> str:
    """Return what the guard of a model answers to pi."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_setup_of_a_bare_debian_says_what_it_did(engine: Engine) -> None:
    assert engine.setup.code == 0, engine.setup.err
    assert engine.setup.out.startswith("ready pod `dc1`: 1x NVIDIA H100 80GB HBM3, vLLM 0.32.0")
    assert "dc1: Installing vLLM: " in engine.setup.err
    assert "learned its host key SHA256:" in engine.setup.err


def test_the_main_job(clean: Engine, tmp_path: Path) -> None:
    """From a name to an answer that used a tool, and back to nothing."""
    clean.pod.check("rm -rf ~/.cache/huggingface/hub")  # other tests may have downloaded it
    started = clean.pi(*START)
    assert started.code == 0, started.err
    assert "dc1: downloading" in started.err
    assert clean.hub.asked("GET", "/resolve/")

    [listed] = clean.pi("list", "--json").json
    assert listed["status"] == "ready"
    url = f"http://{clean.pod.address}:{listed['port']}"
    assert f"ready `tiny` on `dc1`: {url}/v1" in started.out

    for path, method in [("/v1/models", "GET"), ("/metrics", "GET"), ("/tokenize", "POST"), ("/invocations", "POST")]:
        assert status(url + path, method=method) == 401, path
    assert status(url + "/health") == 200
    assert status(url + "/v1/models", key=KEY) == 200
    head, *metrics = told(url + "/.well-known/pi-model?look").splitlines()
    assert json.loads(head) == {"health": 200, "silent": None}
    assert [line for line in metrics if line.startswith("vllm:num_requests_running{")]
    routes = json.loads(told(url + "/.well-known/pi-model?routes"))["routes"]
    assert {"/v1/completions", "/v1/chat/completions"} <= set(routes)

    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "apples.txt").write_text("red\n")
    answered = clean.pi("prompt", "tiny", "--allow", str(folder), f"List the files in {folder}")
    assert answered.code == 0, answered.err
    assert answered.out.strip() == 'Listed. The first entry in it is "apples.txt"'
    thought, called = answered.err.partition("● ls(")[::2]
    assert thought.strip(), "the model thinks before it calls"
    assert str(folder) in called
    assert clean.pi("prompt", "tiny", "What is 2+2?").out.strip() == "4"

    assert "Application startup complete." in clean.pi("logs", "tiny", "-n", "all", "--no-follow").out
    stopped = clean.pi("stop", "tiny")
    assert (stopped.code, stopped.out) == (0, "stopped `tiny` on `dc1`\n")
    assert vllm_processes(clean) == []
    assert clean.pod.listening() == {22}


def test_no_secret_is_left_in_sight(clean: Engine) -> None:
    """Security checks 1, 5, 6 and 7, on the real thing."""
    assert clean.pi(*START).code == 0
    for process in clean.pod.processes():
        assert KEY not in " ".join(process.args)
        assert TOKEN not in " ".join([*process.args, *process.environ.values()])
    assert clean.pod.run(f"grep -rlE '{KEY}|{TOKEN}' /root /tmp /etc /dev/shm").stdout == ""


def test_an_engine_whose_server_was_killed_is_seen_and_stopped(clean: Engine) -> None:
    """Fault 47: the engine and its worker keep their marker although vLLM renames them."""
    assert clean.pi(*START).code == 0
    [listed] = clean.pi("list", "--json").json
    assert len(vllm_processes(clean)) >= 3
    clean.pod.check(f"kill -KILL {listed['pid']}")
    until(lambda: clean.pi("list", "--json").json[0]["status"] == "orphaned", seconds=60)
    assert clean.pi("stop", "tiny").code == 0
    assert vllm_processes(clean) == []


def test_a_context_that_does_not_fit_is_explained_by_vllms_own_words(clean: Engine) -> None:
    """Fault 20."""
    arguments = ARGUMENTS.replace("--kv-cache-memory-bytes 128M", "--kv-cache-memory-bytes 1M").split()
    result = clean.pi("start", MODEL, "--name", "big", "--vllm", *arguments)
    assert result.code == 4
    assert "the context is too long for the GPU memory" in result.err
    assert "To serve at least one request with the model's max seq len" in result.err
    assert clean.pi("list", "--json").json == []


def test_ctrl_c_while_it_loads_leaves_nothing(clean: Engine) -> None:
    with clean.popen(*START) as starting:
        assert starting.stderr is not None
        for line in starting.stderr:
            if "starting the engine" in line or "loading weights" in line:
                break
        os.kill(starting.pid, signal.SIGINT)
        assert starting.wait(timeout=40) == 130
    until(lambda: not vllm_processes(clean))
    assert clean.pi("list", "--json").json == []


def test_a_gated_model_is_refused_with_its_page_and_let_in_with_the_right_token(clean: Engine) -> None:
    """Fault 38, with the real `hf download`."""
    refused = clean.pi("start", "tiny/gated", "--name", "g")
    assert refused.code == 4
    assert f"{clean.hub.url}/tiny/gated" in refused.err
    assert TOKEN not in refused.err

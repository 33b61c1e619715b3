"""`pi gateway --on POD` between two machines: smg is installed by the pod's own uv, and reaches private addresses."""

import json
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pi_cli.gateway import engine
from tests.conftest import KEY, Pi
from tests.lab.openssh import OpensshPod
from tests.openssh.conftest import Prepare
from tests.until import until

MODEL = "Qwen/Qwen3-8B"
# Reads the key and the body from stdin; prints the status and the answer.
ASK = """\
import json, sys, urllib.error, urllib.request
port, key, body = json.load(sys.stdin)
request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode())
request.add_header("Authorization", "Bearer " + key)
request.add_header("Content-Type", "application/json")
try:
    with urllib.request.urlopen(request, timeout=60) as answer:
        print(200, json.load(answer)["choices"][0]["message"]["content"].strip())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""

# Asks `q` for streams until the file that stdin names is there; prints how many were whole, and what others ended with.
LOAD = """\
import json, os, sys, threading, urllib.request
port, key, end = json.load(sys.stdin)
body = {"model": "q", "messages": [{"role": "user", "content": "Count to 30"}], "stream": True}
whole, lost = [], []
def ask():
    while not os.path.exists(end):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode())
        request.add_header("Authorization", "Bearer " + key)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read().decode()
            (whole if '"finish_reason":"stop"' in text.replace(": ", ":") else lost).append(text[-300:])
        except OSError as error:
            lost.append(repr(error))
        if len(whole) == 10:
            open(end + ".began", "w").close()
threads = [threading.Thread(target=ask) for _ in range(3)]
[each.start() for each in threads]
[each.join() for each in threads]
print(json.dumps([len(whole), lost]))
"""


@pytest.fixture
def two(pi: Pi, prepare: Prepare) -> tuple[OpensshPod, OpensshPod]:
    """Two machines with two GPUs each: `q` runs on both, `r` on dc2 only. dc1 has uv where setup puts it."""
    dc1, dc2 = prepare("dc1"), prepare("dc2")
    uv = dc1.home / ".pi/uv/bin/uv"
    uv.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).with_name("uv"), uv)
    for name, pod in (("q", "dc1"), ("q", "dc2"), ("r", "dc2")):
        started = pi("start", MODEL, "--name", name, "--pod", pod, "--gpus", "1")
        assert started.code == 0, started.err
    return dc1, dc2


def ask(pod: OpensshPod, port: int, name: str, key: str = KEY) -> str:
    """Ask a model from a program on the pod itself."""
    (pod.root / "tmp/ask.py").write_text(ASK)
    body = {"model": name, "messages": [{"role": "user", "content": "What is 2+2?"}]}
    return pod.run("python3 /tmp/ask.py", input=json.dumps([port, key, body])).stdout.strip()


@contextmanager
def load(pod: OpensshPod, port: int) -> Iterator[list[Any]]:
    """Ask `q` from programs on the pod while the block runs; then the list has how many were whole, and the rest."""
    (pod.root / "tmp/load.py").write_text(LOAD)
    found: list[Any] = []
    words = json.dumps([port, KEY, "/tmp/end"])
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(pod.run, "python3 /tmp/load.py", input=words, timeout=200)
        try:
            until((pod.root / "tmp/end.began").exists, "requests are answered")
            yield found
        finally:
            (pod.root / "tmp/end").touch()
        found += json.loads(asking.result().stdout)


def logins(pod: OpensshPod) -> list[str]:
    return [title for each in pod.processes() if (title := " ".join(each.args)).startswith("sshd: root")]


def of_gateway(pod: OpensshPod) -> list[int]:
    return [each.pid for each in pod.processes() if each.environ.get("PI_MODEL_UID", "").startswith("gateway-")]


@pytest.mark.timeout(400)
def test_a_gateway_on_a_pod_serves_the_models_of_another_one_without_pi_and_leaves_nothing(
    pi: Pi, two: tuple[OpensshPod, OpensshPod]
) -> None:
    dc1, dc2 = two
    started = pi("gateway", "--all", "--on", "dc1", "--yes", "--json", timeout=240)
    assert started.code == 0, started.err
    port, workers = started.json["port"], started.json["workers"]
    assert started.json["refused"] == {}
    assert [url.rpartition(":")[0] for url in workers.values()] == [
        "http://127.0.0.1",
        f"http://{dc2.address}",
        f"http://{dc2.address}",
    ]
    assert (dc1.home / f".pi/venvs/smg-{engine.VERSION}/bin/smg").exists()

    until(lambda: not logins(dc1) and not logins(dc2), "pi is gone")
    for name in ("r", "q"):
        until(lambda: ask(dc1, port, name) == "200 4", f"`{name}` answers")  # noqa: B023 - called at once
    assert ask(dc1, port, "q", "another-key").startswith("401")
    for pod in two:
        assert not [each for each in pod.processes() if KEY in " ".join(each.args)]
    assert port in dc1.listening()

    row = next(row for row in pi("list", "--json").json if row["name"] == "gateway")
    assert (row["status"], row["port"]) == ("ready", port)

    with load(dc1, port) as answers:
        quit = pi("stop", "q", "--pod", "dc1")
        assert quit.code == 0, quit.err
        assert "waiting for the answers in progress at `q` on `dc1`" in quit.err
        back = pi("start", MODEL, "--name", "q", "--pod", "dc1", "--gpus", "1")
        assert back.code == 0, back.err
        assert "`gateway` on `dc1` sends requests to `q` on `dc1` now" in back.err
    whole, lost = answers
    assert (whole > 10, lost) == (True, [])

    engines_of_dc1 = [each.pid for each in dc1.processes() if "PI_MODEL_UID" in each.environ]
    for pid in set(engines_of_dc1) - set(of_gateway(dc1)):
        dc1.run(f"kill -{signal.SIGKILL} {pid}")
    assert [ask(dc1, port, "q") for _ in range(4)] == ["200 4"] * 4  # the other replica

    stopped = pi("stop", "dc1/gateway")
    assert (stopped.code, "stopped `gateway` on `dc1`" in stopped.out) == (0, True)
    assert of_gateway(dc1) == []
    assert port not in dc1.listening()
    assert pi("stop", "--all", "--pod", "dc1", "--pod", "dc2").code == 0
    for pod in two:
        until(lambda: pod.listening() == {22})  # noqa: B023 - called at once
        assert not [each for each in pod.processes() if "PI_MODEL_UID" in each.environ]
        assert list((pod.home / ".pi/models").glob("*.json")) == []
    assert list((dc1.home / ".pi/gateway").glob("*.workers")) == []

"""No byte of the key, or of a prompt, goes to a process that has taken the port of a model."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import write_entry
from tests.commands.staying import staying
from tests.conftest import KEY, Pi, pods_json
from tests.demo.model import free_port, serve
from tests.lab.relay import Relay
from tests.pods import scripted
from tests.until import until

NEIGHBOURS = "127.0.0.2"  # an address of this machine on which the pod's models do not listen
THIEF = Path(__file__).parent.parent / "lab" / "thief.py"
PROMPT = "words that nobody else reads"

pytestmark = pytest.mark.xdist_group("thieves")


@contextmanager
def thief(port: int, file: Path, *other: int, address: str = "127.0.0.1") -> Iterator[None]:
    """Let a process that is not a model answer on a port of the pod."""
    process = subprocess.Popen([sys.executable, THIEF, f"{address}:{port}", file, *map(str, other)])
    try:
        until(lambda: is_open(port, address))
        yield
    finally:
        process.kill()
        process.wait()


def is_open(port: int, address: str = "127.0.0.1") -> bool:
    with suppress(OSError), socket.create_connection((address, port)):
        return True
    return False


def start(pi: Pi, name: str, *options: str) -> int:
    result = pi("start", "Qwen/Qwen3-8B", "--name", name, "--json", *options)
    assert result.code == 0, result.err
    return int(result.json[0]["port"])


def kill_model(pod: EmbeddedPod, port: int) -> None:
    """Kill all processes of a model at once, as the kernel does when memory runs out."""
    for process in pod.processes():
        if "PI_MODEL_UID" in process.environ and str(port) in process.command:
            os.killpg(process.pid, signal.SIGKILL)
    until(lambda: not is_open(port))


def was_sent(file: Path) -> str:
    text = file.read_text() if file.exists() else ""
    assert KEY not in text
    assert PROMPT not in text
    assert "Bearer" not in text
    return text


def test_no_command_gives_the_key_to_a_thief_of_the_port(pi: Pi, pod: EmbeddedPod, tmp_path: Path) -> None:
    port, heard = start(pi, "q"), tmp_path / "heard"
    assert pi("env", "q").code == 0
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        kill_model(pod, port)
        with thief(port, heard):
            for _ in range(3):
                with pytest.raises(httpx2.TransportError):
                    ask(url)
            asked = pi("prompt", "q", PROMPT)
            assert (asked.code, asked.out) == (1, "")
            assert asked.err.startswith("error: `q` on `dc1` cannot be reached: ")
            environment = pi("env", "q")
            assert (environment.code, environment.out) == (1, "")
            assert pi("check", "q").code == 1
            assert pi("run", "q", "--", "env").code == 1
            assert pi("start", "--attach", "q").code != 0
            assert "http" not in pi("list").out
            assert pi("top", "--interval", "0.5").code == 0
            assert pi("why", "q").code == 0
    assert "pi-model" in was_sent(heard), "it was challenged, and that is all"


def ask(url: str, name: str = "q") -> httpx2.Response:
    body = {"model": name, "messages": [{"role": "user", "content": PROMPT}]}
    return httpx2.post(
        f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    )


def test_a_thief_that_passes_the_challenge_on_to_another_model_proves_nothing(
    pi: Pi, pod: EmbeddedPod, tmp_path: Path
) -> None:
    other = start(pi, "other")
    port, heard = start(pi, "q"), tmp_path / "heard"
    kill_model(pod, port)
    with thief(port, heard, other):
        assert pi("prompt", "q", PROMPT).code == 1
        assert pi("env", "q").code == 1
    assert was_sent(heard)
    assert pi("prompt", "other", "What is 2+2?").out == "4\n"


def test_a_model_that_moved_to_another_port_is_found_there(pi: Pi, pod: EmbeddedPod, tmp_path: Path) -> None:
    """`pods.json` of this machine still has the launch before, and a thief its port."""
    port, heard = start(pi, "q"), tmp_path / "heard"
    before = Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_text()
    pi("stop", "q")
    with thief(port, heard):
        assert start(pi, "q") != port
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(before)
        answer = pi("prompt", "q", "What is 2+2?")
        assert (answer.code, answer.out) == (0, "4\n"), answer.err
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(before)
        assert pi("env", "q").code == 0
    was_sent(heard)
    assert pod.processes()


def test_a_model_without_the_guard_is_used_through_ssh_and_has_no_public_url(
    pi: Pi, pod: EmbeddedPod, tmp_path: Path
) -> None:
    """It cannot answer the challenge, as that of an older pi cannot: the pod says whose port it is."""
    heard = tmp_path / "heard"
    model = serve(pod, seconds=0.5)
    until(lambda: model.status() == 200)
    write_entry("q", "dc1", {"model": "tiny/model", "port": model.port, "gpu": "0", "pid": model.server.pid})
    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["url"]) == ("ready", None)
    assert pi("env", "q").code == 1
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        assert ask(url, "tiny").status_code == 200
        assert pi("env", "q", "--json").json["env"]["OPENAI_BASE_URL"] == url
        for process in model.processes:
            os.kill(process.pid, signal.SIGKILL)
        until(lambda: not is_open(model.port))
        with thief(model.port, heard):
            with pytest.raises(httpx2.TransportError):
                ask(url)
            assert pi("prompt", "q", PROMPT).code == 1
            assert pi("env", "q").code == 1
    was_sent(heard)


def test_a_neighbour_behind_the_same_address_is_not_shown_as_the_model(
    pi: Pi, pod: EmbeddedPod, tmp_path: Path
) -> None:
    """The provider maps the ssh port of several pods to one address, whose other ports are somebody else's."""
    heard = tmp_path / "heard"
    with Relay(pod.address, pod.port, listen=NEIGHBOURS) as way:
        state = pods_json()
        state["pods"]["dc1"]["ssh"] = f"ssh -p {way.port} -i {pod.key} root@{NEIGHBOURS}"
        Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
        other, port = start(pi, "other"), start(pi, "q")
        with thief(port, heard, other, address=NEIGHBOURS):
            assert [model["url"] for model in pi("list", "--json").json] == [None, None]
            assert f"http://{NEIGHBOURS}" not in pi("list").out
            assert pi("env", "q").code == 1
            assert pi("prompt", "q", "What is 2+2?").out == "4\n"
        assert "GET /.well-known/pi-model" in was_sent(heard)


@pytest.mark.parametrize("uid", ["a" * 32, None])
def test_a_pod_that_names_a_model_of_its_own_like_mine_is_not_given_the_key(
    pi: Pi, pod: EmbeddedPod, tmp_path: Path, uid: str | None
) -> None:
    """The pod does not know the key. pi adopts a model with a uid only; one without was entered by the user."""
    heard, port = tmp_path / "heard", free_port()
    owned = scripted.model(uid=uid, port=port, proof_keys=["0f" * 32] if uid else [])
    scripted.answer(pod, scripted.survey(owned))
    with thief(port, heard):
        assert pi("list").code == 0
        assert ("q" in pods_json()["pods"]["dc1"]["models"]) is (uid is not None)
        for words in (["prompt", "q", PROMPT], ["env", "q"], ["check", "q"], ["run", "q", "--", "env"]):
            result = pi(*words)
            assert (result.code, result.out) == (1 if uid else 2, ""), words
            assert ("`q` does not accept the key in PI_API_KEY" in result.err) is (uid is not None)
    was_sent(heard)

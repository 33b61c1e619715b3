"""`pi pods remove`: forgetting a pod, and what becomes of its models."""

import json
import os
import pty
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.ssh import host_keys
from tests.commands.served import Served
from tests.conftest import Pi, Result, pods_json
from tests.forkserver import FORKSERVER
from tests.until import until

pytestmark = pytest.mark.xdist_group("pods_remove")


def start(pi: Pi) -> None:
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q")
    assert result.code == 0, result.err


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    """The module's pod, registered as `dc1`, on which `q` runs; the first test starts it."""
    module_pod.register("dc1")
    module_pod.started(pi, "q")
    return module_pod.pod


def write_down_a_model() -> None:
    """Remember a model that does not run."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"]["dc1"]["models"]["q"] = {"model": "m", "port": 8001, "gpu": "0", "pid": 4000000}
    path.write_text(json.dumps(state))


def answering(answer: str, *words: str) -> Result:
    """Run pi with a terminal to type on."""
    screen, terminal = pty.openpty()
    with os.fdopen(screen, "wb", buffering=0) as keyboard, FORKSERVER.start(words, stdin=terminal) as pi:
        os.close(terminal)
        keyboard.write(answer.encode() + b"\n")
        assert pi.stdout
        assert pi.stderr
        out, err = pi.stdout.read(), pi.stderr.read()
        return Result(pi.wait(60), out, err)


def test_a_pod_without_models_is_forgotten_with_its_host_key(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi("pods", "remove", "dc1")
    assert result.code == 0, result.err
    assert result.out == "removed `dc1`; the machine keeps running and is billed until you end it at its provider\n"
    assert pods_json() == {"pods": {}, "active": None}
    assert host_keys.read("dc1") is None
    assert pod.home.exists()


def test_models_that_are_only_on_the_list_need_no_question(pi: Pi, pod: EmbeddedPod) -> None:
    write_down_a_model()
    result = pi("pods", "remove", "dc1")
    assert result.code == 0, result.err
    assert pod.commands


def test_a_pod_with_models_is_kept_when_no_user_can_be_asked(pi: Pi, shared: EmbeddedPod) -> None:
    """Fault 56."""
    result = pi("pods", "remove", "dc1", input="stop\n")
    assert result.code == 1
    assert "note: still running on `dc1`: `q`" in result.err
    assert "`dc1` was not removed: stdin is not a terminal, so pi cannot ask" in result.err
    assert "`--stop`" in result.err
    assert "q" in pods_json()["pods"]["dc1"]["models"]
    assert shared.processes()


@pytest.mark.parametrize("answer", ["", "keep", "no"])
def test_on_a_terminal_the_pod_is_kept_by_default(shared: EmbeddedPod, answer: str) -> None:
    result = answering(answer, "pods", "remove", "dc1")
    assert result.code == 1
    assert "[stop/remove/KEEP]" in result.err
    assert "dc1" in pods_json()["pods"]
    assert shared.processes()


def test_the_models_are_stopped_first_when_that_is_the_answer(pi: Pi, pod: EmbeddedPod) -> None:
    start(pi)
    result = answering("stop", "pods", "remove", "dc1")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == "stopped `q` on `dc1`"
    until(lambda: pod.processes() == [])
    assert pods_json()["pods"] == {}


def test_the_pod_is_forgotten_all_the_same_when_that_is_the_answer(shared: EmbeddedPod) -> None:
    assert answering("remove", "pods", "remove", "dc1").code == 0
    assert pods_json()["pods"] == {}
    assert shared.processes()


def test_stop_ends_also_what_pi_does_not_remember(pi: Pi, pod: EmbeddedPod) -> None:
    start(pi)
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    path.write_text(json.dumps(pods_json() | {"pods": {"dc1": pods_json()["pods"]["dc1"] | {"models": {}}}}))
    result = pi("pods", "remove", "dc1", "--stop")
    assert result.code == 0, result.err
    assert result.out.startswith("stopped `q` on `dc1`\nremoved `dc1`;")
    until(lambda: pod.processes() == [])


def test_yes_asks_neither_the_user_nor_the_pod(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 56: the pod is never touched."""
    write_down_a_model()
    result = pi("pods", "remove", "dc1", "--yes")
    assert result.code == 0
    assert "note: may still be running on `dc1`: `q`" in result.err
    assert pod.commands == []


def test_a_pod_that_does_not_answer_can_be_forgotten(pi: Pi, pod: EmbeddedPod) -> None:
    write_down_a_model()
    pod.close()
    kept = pi("pods", "remove", "dc1")
    assert kept.code == 1
    assert "note: may still be running on `dc1`: `q`" in kept.err
    assert "refused the connection" in kept.err
    stopping = pi("pods", "remove", "dc1", "--stop")
    assert stopping.code == 3
    assert "`pi pods remove dc1 --yes`" in stopping.err
    assert "dc1" in pods_json()["pods"]
    no = answering("n", "pods", "remove", "dc1")
    assert no.code == 1
    assert "Remove `dc1` anyway?" in no.err
    yes = answering("y", "pods", "remove", "dc1")
    assert yes.code == 0
    assert "is billed" in yes.out
    assert pods_json()["pods"] == {}


def test_the_next_pod_becomes_active(pi: Pi, pod: EmbeddedPod) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = pods_json()
    state["pods"]["dc2"] = {"ssh": "ssh root@2.2.2.2", "provider": "runpod"}
    path.write_text(json.dumps(state))
    assert pi("pods", "remove", "dc1").out.splitlines()[1] == "the active pod is now `dc2`"
    result = pi("pods", "remove", "dc2", "--yes")
    assert "end it at its provider (runpod)" in result.out
    assert pod.home.exists()


def write_down_two_pods() -> None:
    """Remember a second pod, which is the same machine."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"]["dc2"] = state["pods"]["dc1"] | {"models": {}}
    path.write_text(json.dumps(state))
    with (path.parent / "known_hosts").open("r+") as file:
        file.write(file.read().replace("dc1 ", "dc2 "))


def test_several_pods_are_removed_after_one_question_that_names_them_all(shared: EmbeddedPod) -> None:
    write_down_two_pods()
    kept = answering("", "pods", "remove", "dc1", "dc2")
    assert kept.err.count("? [") == 1
    assert "remove `dc1`, `dc2` anyway, or keep them? [stop/remove/KEEP]" in kept.err
    assert "error: `dc1`, `dc2` were not removed" in kept.err
    assert set(pods_json()["pods"]) == {"dc1", "dc2"}
    removed = answering("remove", "pods", "remove", "dc1", "dc2")
    assert removed.code == 0, removed.err
    assert pods_json()["pods"] == {}
    assert shared.home.exists()


def test_an_unknown_name_among_several_removes_none(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("pods", "remove", "dc1", "dc9", "--yes").code == 2
    assert set(pods_json()["pods"]) == {"dc1"}
    assert pod.home.exists()


def test_a_pod_that_cannot_be_reached_does_not_keep_the_others(pi: Pi, pod: EmbeddedPod) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"] = {"gone": {"ssh": "ssh -p 9 root@127.0.0.1"}} | state["pods"]
    path.write_text(json.dumps(state))
    result = pi("pods", "remove", "gone", "dc1", "--stop", "--json")
    assert (result.code, [row["name"] for row in result.json]) == (3, ["dc1"])
    assert "cannot reach pod `gone`" in result.err
    assert set(pods_json()["pods"]) == {"gone"}
    assert pod.home.exists()

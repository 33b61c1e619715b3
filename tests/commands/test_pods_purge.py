"""`pi pods remove --purge`: what pi has put on the machine is shown, and deleted after a yes."""

import re
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.test_pods_remove import answering
from tests.conftest import Pi, pods_json

pytestmark = pytest.mark.xdist_group("pods_remove")


@pytest.fixture
def installed(pod: EmbeddedPod) -> Path:
    """A vLLM on the pod, as setup installs it; return its folder."""
    folder = pod.home / ".pi/venvs/0.33.0"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib/torch.so").write_bytes(b"x" * 3_000_000)
    (pod.home / "mine").write_text("of the user")
    return folder


def test_what_is_deleted_is_shown_and_then_deleted(pi: Pi, pod: EmbeddedPod, installed: Path) -> None:
    result = pi("pods", "remove", "dc1", "--purge", "--yes")
    assert result.code == 0, result.err
    assert re.search(r"this is deleted from `dc1`: 3\.\d MB, files: ", result.err)
    assert str(installed) in result.err
    assert str(pod.home / ".pi/programs") in result.err
    assert re.search(r"deleted 3\.\d MB from `dc1`", result.out)
    assert "removed `dc1`; the machine keeps running" in result.out
    assert not (pod.home / ".pi").exists()
    assert (pod.home / "mine").exists()
    assert pods_json()["pods"] == {}


def test_without_a_terminal_and_without_yes_nothing_is_deleted(pi: Pi, installed: Path) -> None:
    result = pi("pods", "remove", "dc1", "--purge", input="y\n")
    assert result.code == 1
    assert "`dc1` was not purged: stdin is not a terminal" in result.err
    assert "`--yes`" in result.err
    assert installed.exists()
    assert "dc1" in pods_json()["pods"]


@pytest.mark.parametrize(("answer", "is_deleted"), [("n", False), ("", False), ("y", True)], ids=["no", "empty", "yes"])
def test_pi_asks_on_a_terminal(pod: EmbeddedPod, installed: Path, answer: str, is_deleted: bool) -> None:
    assert pod.home.exists()
    result = answering(answer, "pods", "remove", "dc1", "--purge")
    assert "Should pi delete this from `dc1`? [y/N]" in result.err
    assert (result.code, installed.exists()) == ((0, False) if is_deleted else (1, True))
    assert ("dc1" in pods_json()["pods"]) != is_deleted


def test_a_pod_with_models_is_purged_only_after_they_are_stopped(pi: Pi, pod: EmbeddedPod, installed: Path) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    refused = pi("pods", "remove", "dc1", "--purge", "--yes")
    assert refused.code == 1
    assert "`dc1` was not purged: its models are still running: `q`" in refused.err
    assert "`pi pods remove dc1 --purge --stop`" in refused.err
    assert installed.exists()
    result = pi("pods", "remove", "dc1", "--purge", "--stop", "--yes")
    assert result.code == 0, result.err
    assert "stopped `q` on `dc1`" in result.out
    assert not installed.exists()
    assert not pod.processes()


def test_a_pod_that_does_not_answer_is_not_purged_and_stays_on_the_list(pi: Pi, pod: EmbeddedPod) -> None:
    pod.close()
    result = pi("pods", "remove", "dc1", "--purge", "--yes")
    assert result.code == 3
    assert "dc1" in pods_json()["pods"]


def test_models_are_deleted_by_a_purge_only(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.home.exists()
    result = pi("pods", "remove", "dc1", "--models")
    assert result.code == 2
    assert "`--models` needs `--purge`" in result.err

"""What can be known before a pod is touched is known then; what cannot be written here afterwards is said as it is."""

import os
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json
from tests.terminal import at_a_terminal
from tests.until import until


def let_pods_json_be_read_only() -> None:
    """Tests run as root, who may write everywhere: no lock can be made, as on a full or read-only disk."""
    lock = Path(os.environ["PI_CONFIG_DIR"], "pods.json.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()


def test_a_model_that_could_not_be_recorded_is_not_loaded(pi: Pi, pod: EmbeddedPod) -> None:
    let_pods_json_be_read_only()
    for words in (["start", "Qwen/Qwen3-8B", "--name", "q"], ["pods", "setup", "dc1"]):
        result = pi(*words)
        assert result.code == 5
        assert "error: cannot write `" in result.err
        assert "hint: nothing was changed" in result.err
    assert pod.commands == []


def test_a_model_is_stopped_also_where_that_cannot_be_recorded(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    let_pods_json_be_read_only()
    result = pi("stop", "q")
    assert (result.code, result.out) == (5, "stopped `q` on `dc1`\n")
    assert "cannot write `" in result.err
    assert "the models are stopped, but still on pi's list; a `pi list` that can write it removes them" in result.err
    assert "nothing was changed" not in result.err
    assert pod.processes() == []


def test_a_pod_that_answered_is_listed_also_where_that_cannot_be_recorded(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    pi("stop", "q", "--forget")
    let_pods_json_be_read_only()
    result = pi("list", "--json")
    assert (result.code, [(each["name"], each["status"]) for each in result.json]) == (0, [("q", "ready")])
    assert "dc1: pi's list of models was not updated: cannot write `" in result.err
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert pod.processes()


def test_a_watched_list_says_once_that_it_cannot_be_recorded(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    pi("stop", "q", "--forget")
    let_pods_json_be_read_only()
    with at_a_terminal("list", "--watch", columns=160) as terminal:
        terminal.shows("was not updated")
        surveys = len(pod.commands)
        until(lambda: len(pod.commands) >= surveys + 2)  # the answer to the first of them has been shown
        terminal.type("\x03")
        assert terminal.wait() == 130
        assert terminal.text.count("was not updated") == 1


@pytest.mark.usefixtures("pod")
def test_a_long_path_for_temporary_files_does_not_matter(pi: Pi, tmp_path: Path) -> None:
    """A socket's path has at most 103 bytes."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    result = pi("start", "Qwen/Qwen3-8B", "--name", "q", TMPDIR=str(long))
    assert result.code == 0, result.err
    assert list(long.iterdir()) == []
    assert pi("prompt", "q", "What is 2+2?", TMPDIR=str(long)).out == "4\n"

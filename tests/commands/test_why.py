"""`pi why`: why a model failed, also when it is long gone."""

import os

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.log_watching import speaking
from tests.conftest import Pi, pods_json

START = ("start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", "--simulate")


def test_a_failed_start_is_explained_after_it_was_forgotten(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.ssh
    assert pi(*START, "fail=oom").code == 4
    assert pods_json()["pods"]["dc1"]["models"] == {}
    said = pi("why", "q")
    assert said.code == 0
    first, _, *rest = said.out.splitlines()
    assert first.startswith("`q` on `dc1` failed")
    assert "the model does not fit the GPU memory" in first
    [telling] = [line for line in rest if line.startswith("> ")]
    assert "CUDA out of memory" in telling
    assert rest[-1].startswith("next: ")
    explained = pi("why", "dc1/q", "--json").json
    assert explained["cause"] == "the model does not fit the GPU memory"
    assert explained["model"] == "Qwen/Qwen3-8B"
    assert explained["line"][:80] in telling
    assert (explained["known"], explained["running"]) == (True, False)
    assert explained["hint"] in rest[-1]


def test_a_model_that_runs_or_was_stopped_has_not_failed(pi: Pi, pod: EmbeddedPod) -> None:
    assert pod.ssh
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    assert pi("why", "q").out == "`q` on `dc1` is running; its log shows no failure (serving)\n"
    assert pi("stop", "q").code == 0
    assert pi("why", "q").out == "`q` on `dc1` was shut down; its log shows no failure\n"
    assert pi("why", "q", "--json").json["cause"] is None


def test_what_a_log_says_cannot_control_the_terminal(pi: Pi, pod: EmbeddedPod) -> None:
    with speaking(pod, said=b"\x1b]0;owned\x07 Traceback\nValueError: \x1b[2J no\n"):
        said = pi("why", "q", env={"FORCE_COLOR": "1"})
        quoted = pi("why", "q", "--json").json
    assert "\x1b]0" not in said.out
    assert "\x1b[2J" not in said.out
    assert "\x1b" not in "".join([quoted["line"], *quoted["context"]])


@pytest.mark.parametrize("words", [("why", "typo"), ("why", "dc9/q")], ids=["model", "pod"])
def test_what_is_not_there_is_an_error(pi: Pi, pod: EmbeddedPod, words: tuple[str, ...]) -> None:
    del pod
    result = pi(*words)
    assert result.code in (1, 2)
    assert result.err.startswith("error: ")
    assert os.linesep + "hint: " in result.err

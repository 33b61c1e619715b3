"""`pi start`: what the pod's vLLM says about its arguments before it is started, on embedded pods."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.test_downloads import blobs, pace
from tests.conftest import Pi, pods_json
from tests.diagnosis.argument_rows import ROWS, Row
from tests.openssh.at_work import pi_at
from tests.until import until

MODEL = "Qwen/Qwen3-8B"
START = ("start", MODEL, "--name", "q")
SLOW = 600  # seconds of a download that does not end by itself
# An option that only the pod's vLLM can know not to exist: a newer one might have it.
UNKNOWN = ("--vllm", "--bogus", "1", "--max-model-len", "4096")


def import_takes(pod: EmbeddedPod, seconds: float) -> None:
    """Set how long the pod's vLLM is imported."""
    (pod.home / ".demo" / "vllm.json").write_text(json.dumps({"seconds": 0.2, "import": seconds}))


def set_up(pod: EmbeddedPod, version: str = "0.32.0") -> None:
    """Install a vLLM as setup does, so that the pod knows its version."""
    venv = pod.home / ".pi" / "venvs" / version
    script = f"{venv}/bin/python"
    environ = {"HOME": str(pod.home), "PATH": f"{pod.key.parent}/bin:/usr/bin:/bin", "PI_DEMO_POD": str(pod.key.parent)}
    for words in (("venv", str(venv)), ("pip", "install", "--python", script, f"vllm=={version}", "huggingface_hub")):
        subprocess.run([f"{pod.key.parent}/bin/uv", *words], env=environ, check=True, capture_output=True)
    (pod.home / "venv").symlink_to(venv)


def change_parser(pod: EmbeddedPod, expression: str) -> None:
    """Make the parser of the pod's vLLM do something else, as an older or a broken vLLM would."""
    [path] = pod.key.parent.glob("lib/python3*/site-packages/vllm/utils/argparse_utils.py")
    change = f"FlexibleArgumentParser.parse_args = lambda self, words: {expression}\n"
    path.write_text(path.read_text() + change)


def state() -> bytes:
    return Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes()


def questions(pod: EmbeddedPod) -> list[tuple[str, ...]]:
    """Return the commands of the processes that ask vLLM's parser."""
    commands = [process.command for process in pod.processes()]
    return [words for words in commands if any("FlexibleArgumentParser" in word for word in words)]


def downloads(pod: EmbeddedPod) -> list[tuple[str, ...]]:
    return [process.command for process in pod.processes() if "download" in process.command]


def records(pod: EmbeddedPod) -> list[Path]:
    return list((pod.home / ".pi" / "models").glob("*.json"))


def checked(pod: EmbeddedPod) -> list[Path]:
    return list((pod.home / ".pi" / "checked").glob("*"))


def test_an_unknown_option_stops_the_download_and_nothing_is_left(pi: Pi, pod: EmbeddedPod) -> None:
    set_up(pod)
    pace(pod, SLOW)
    before = state()
    result = pi(*START, *UNKNOWN)
    assert result.code == 2
    assert "error: vLLM 0.32.0 on `dc1` does not accept `--bogus`: unrecognized argument\n" in result.err
    [hint] = [line for line in result.err.splitlines() if line.startswith("hint: ")]
    corrected = f"pi {' '.join(START)} --vllm --max-model-len 4096"
    assert hint == f"hint: leave it out: `{corrected}`"
    assert state() == before
    assert pi("list", "--json").json == []
    assert (records(pod), downloads(pod), questions(pod), blobs(pod, "*.incomplete")) == ([], [], [], [])
    assert not (pod.home / ".vllm_logs" / "q.log").exists()
    pace(pod, 0.2)
    assert pi(*shlex.split(corrected)[1:]).code == 0


@pytest.mark.parametrize("row", [row for row in ROWS if row.said.startswith("argument -")][::7], ids=str)
def test_whatever_the_pods_vllm_says_is_one_line_and_one_hint(pi: Pi, pod: EmbeddedPod, row: Row) -> None:
    """The words are accepted by the vLLM that pi knows; only that of the pod refuses them."""
    pace(pod, SLOW)
    change_parser(pod, f"self.error({row.said!r})")
    result = pi(*START, "--vllm", "--max-model-len", "4096")
    assert (result.code, pods_json()["pods"]["dc1"]["models"]) == (2, {})
    said = result.err.splitlines()
    [at] = [number for number, line in enumerate(said) if line.startswith("error: ")]
    assert said[at].startswith("error: the vLLM on `dc1` does not accept ")
    assert said[at + 1].startswith("hint: ")
    assert len(said) == at + 2
    assert downloads(pod) == []


def test_a_model_that_is_there_waits_for_the_answer(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi(*START).code == 0
    assert pi("stop", "q").code == 0
    import_takes(pod, 1.5)
    result = pi(*START, *UNKNOWN)
    assert result.code == 2
    assert "dc1: checking the arguments\n" in result.err
    assert "starting vLLM" not in result.err
    assert records(pod) == []


def test_accepted_arguments_are_asked_about_once(pi: Pi, pod: EmbeddedPod) -> None:
    own = ("--vllm", "--max-model-len", "4096")
    assert pi(*START, *own).code == 0
    [verdict] = checked(pod)
    assert pi("stop", "q").code == 0
    import_takes(pod, SLOW)
    assert pi(*START, *own).code == 0, "it would have been asked again"
    assert checked(pod) == [verdict]


def test_another_vllm_is_asked_again(pi: Pi, pod: EmbeddedPod) -> None:
    own = ("--vllm", "--max-model-len", "4096")
    set_up(pod)
    assert pi(*START, *own).code == 0
    assert pi("stop", "q").code == 0
    [packages] = (pod.home / ".pi/venvs/0.32.0/lib").glob("python3*/site-packages")
    (packages / "plugin").mkdir()
    assert pi(*START, *own).code == 0
    assert len(checked(pod)) == 2


def test_pis_own_arguments_are_asked_about_only_during_a_download(pi: Pi, pod: EmbeddedPod) -> None:
    pace(pod, SLOW)
    with pi_at("downloading", *START) as start:
        until(lambda: checked(pod) != [])
        start.terminate()
        start.wait(5)
    [verdict] = checked(pod)
    verdict.unlink()
    pace(pod, 0.2)
    import_takes(pod, SLOW)
    assert pi(*START).code == 0, "the answer is not waited for"
    assert pi("stop", "q").code == 0
    assert pi(*START).code == 0
    assert (questions(pod), checked(pod)) == ([], [])


def test_what_pi_chose_and_an_old_vllm_refuses_is_not_the_users_fault(pi: Pi, pod: EmbeddedPod) -> None:
    pace(pod, SLOW)
    change_parser(pod, "self.error('unrecognized arguments: --new')")
    result = pi(*START)
    assert result.code == 4
    assert "did not start on `dc1`: the vLLM there does not accept what pi chose: unrecognized arguments" in result.err
    assert "hint: install the current one with `pi pods setup dc1 --vllm release`, and start again\n" in result.err


@pytest.mark.parametrize("trouble", ["__import__('missing')", "undefined_name"])
def test_a_parser_that_cannot_run_decides_nothing(pi: Pi, pod: EmbeddedPod, trouble: str) -> None:
    change_parser(pod, trouble)
    assert pi(*START, "--vllm", "--max-model-len", "4096").code == 0
    assert checked(pod) == []


def test_of_two_pods_the_one_that_refuses_is_named_and_the_other_starts(
    pi: Pi, embed: Callable[..., EmbeddedPod]
) -> None:
    embed("dc1")
    bad = embed("dc2")
    pace(bad, SLOW)
    change_parser(bad, "self.error('unrecognized arguments: --max-num-seqs 8')")
    result = pi(*START, "--pod", "dc1", "--pod", "dc2", "--vllm", "--max-num-seqs", "8")
    assert result.code == 2
    assert "error: the vLLM on `dc2` does not accept `--max-num-seqs`: unrecognized argument\n" in result.err
    assert {name: list(pod["models"]) for name, pod in pods_json()["pods"].items()} == {"dc1": ["q"], "dc2": []}
    assert (records(bad), downloads(bad)) == ([], [])


def test_two_pods_that_refuse_are_both_named(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    for pod in (embed("dc1"), embed("dc2")):
        pace(pod, SLOW)
    result = pi(*START, "--pod", "dc1", "--pod", "dc2", *UNKNOWN)
    assert result.code == 2
    for name in ("dc1", "dc2"):
        assert f"vLLM on `{name}` does not accept `--bogus`: unrecognized argument\n" in result.err


def test_a_detached_start_is_refused_too(pi: Pi, pod: EmbeddedPod) -> None:
    pace(pod, SLOW)
    result = pi(*START, "--detach", *UNKNOWN)
    assert (result.code, pi("list", "--json").json) == (2, [])


@pytest.mark.parametrize("phase", ["downloading", "checking the arguments"])
def test_ctrl_c_while_vllm_is_asked_leaves_no_process(pi: Pi, pod: EmbeddedPod, phase: str) -> None:
    if phase == "downloading":
        pace(pod, SLOW)
    else:
        assert pi(*START).code == 0
        assert pi("stop", "q").code == 0
    import_takes(pod, SLOW)
    with pi_at(phase, *START, *UNKNOWN) as start:
        until(lambda: questions(pod) != [])
        start.send_signal(signal.SIGINT)
        assert start.wait(5) == 130
    until(lambda: (questions(pod), downloads(pod), records(pod)) == ([], [], []))


def test_a_model_that_is_stopped_while_vllm_is_asked_is_not_started(pi: Pi, pod: EmbeddedPod) -> None:
    assert pi(*START).code == 0
    assert pi("stop", "q").code == 0
    import_takes(pod, SLOW)
    with pi_at("checking the arguments", *START, *UNKNOWN) as start:
        assert pi("stop", "q").code == 0
        said = start.communicate(timeout=30)[1]
        assert start.returncode == 1
    assert "error: pod `dc1`: another client stopped `q`" in said
    assert (questions(pod), records(pod)) == ([], [])


def test_the_question_ends_when_pi_is_killed(pod: EmbeddedPod) -> None:
    pace(pod, SLOW)
    import_takes(pod, SLOW)
    with pi_at("downloading", *START, *UNKNOWN) as start:
        until(lambda: questions(pod) != [])
        start.kill()
        start.wait(5)
    until(lambda: (questions(pod), downloads(pod), records(pod)) == ([], [], []))


def test_the_key_is_not_in_the_question(pod: EmbeddedPod) -> None:
    pace(pod, SLOW)
    import_takes(pod, SLOW)
    key = os.environ["PI_API_KEY"]
    with pi_at("downloading", *START, *UNKNOWN) as start:
        until(lambda: questions(pod) != [])
        asking = [process for process in pod.processes() if process.command in questions(pod)]
        assert asking
        assert not any(key in f"{process.command} {process.environ}" for process in asking)
        assert not any(os.environ["HF_TOKEN"] in f"{process.command} {process.environ}" for process in asking)
        start.terminate()
        start.wait(5)


def test_a_start_that_waits_for_another_download_is_refused_and_the_other_continues(pi: Pi, pod: EmbeddedPod) -> None:
    pace(pod, SLOW)
    with pi_at("downloading", "start", MODEL, "--name", "a", "--vllm", "--max-model-len", "4096") as other:
        assert pi(*START, *UNKNOWN).code == 2
        assert len(downloads(pod)) == 1
        pace(pod, 0.2)
        assert other.wait(60) == 0
    assert [model["name"] for model in pi("list", "--json").json] == ["a"]

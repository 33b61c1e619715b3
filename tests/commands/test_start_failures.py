"""`pi start` when vLLM does not start: what is said, what to type next, and that nothing is left."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pi_cli.demo import gpus
from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, Result, pods_json
from tests.diagnosis.engine_log import BEGIN, LAUNCHER, of_the_engine, of_workers
from tests.diagnosis.failure_rows import MODEL, ROWS, simulated

START = ("start", MODEL, "--name", "q")
KV_CACHE = simulated("kv-cache")
GPU_BUSY = next(row.error for row in ROWS if "Free memory on device" in row.error)


def running(pod: EmbeddedPod) -> list[str]:
    return [" ".join(process.command) for process in pod.processes() if "serve" in process.command]


def error_of(result: Result) -> str:
    [error] = [line for line in result.err.splitlines() if line.startswith("error:")]
    return error.removeprefix("error: ")


def hint_of(result: Result) -> str:
    [hint] = [line for line in result.err.splitlines() if line.startswith("hint:")]
    return hint.removeprefix("hint: ")


def excerpt_of(result: Result) -> list[str]:
    """Return what is shown between the error and its hint."""
    lines = result.err.splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("error:"))
    return [line[2:] for line in lines[first + 1 :] if line.startswith("  ")]


def to_type(hint: str) -> list[list[str]]:
    return [shlex.split(each)[1:] for each in re.findall(r"`(pi [^`]*)`", hint)]


def that_says(pod: EmbeddedPod, log: str) -> None:
    """Put a vLLM onto the pod that says this, and fails."""
    (pod.home / "said").write_text(log)
    pod.install("vllm", "#!/bin/sh\ncat ~/said\nexit 1\n")


@pytest.fixture
def stranger() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that pi has not started."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("simulate", "said"),
    [
        ("fail=kv-cache", "the context is too long for the GPU memory"),
        ("fail=oom", "the model does not fit the GPU memory"),
        ("fail=unknown-arch", "this vLLM does not know the architecture"),
        ("fail=killed", "vLLM was killed by signal 9 (out of host memory?)"),
        ("fail=engine-killed", "the engine was killed by signal 9 (out of host memory?)"),
    ],
)
def test_a_model_that_dies_shows_why_and_is_not_recorded(pi: Pi, pod: EmbeddedPod, simulate: str, said: str) -> None:
    """Faults 20 and 22."""
    before = Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes()
    result = pi(*START, "--vllm", "--simulate", simulate)
    assert result.code == 4
    assert f"`{MODEL}` did not start on `dc1`: {said}" in error_of(result)
    assert hint_of(result).endswith(f"the whole log is on the pod: {pod.home}/.vllm_logs/q.log")
    assert "pi_cli" not in result.err, "the words are vLLM's, not a traceback of ours"
    assert Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes() == before
    assert running(pod) == []


def test_what_to_type_next_is_what_was_typed_with_one_thing_changed(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 20."""
    that_says(pod, of_the_engine(KV_CACHE))
    result = pi(*START, "--context", "32k", "--timeout", "20m")
    typed = f"pi start {MODEL} --name q --context 16256 --timeout 20m"
    more = f"pi start {MODEL} --name q --gpus 2 --context 32k --timeout 20m"
    assert hint_of(result).startswith(
        f"start it with a shorter context: `{typed}`; or start it on more GPUs: `{more}`; the whole log is"
    )
    for words in to_type(hint_of(result)):
        assert pi(*words, "--dry-run").code == 0, words


@pytest.mark.usefixtures("pod")
def test_the_users_own_arguments_stay_as_they_are_but_for_one(pi: Pi) -> None:
    """Fault 20."""
    own = [
        "--max-model-len",
        "40K",
        "--override-generation-config",
        '{"a": "it\'s $HOME"}',
        "--simulate",
        "fail=kv-cache",
    ]
    hint = hint_of(pi(*START, "--pod", "dc1", "--vllm", *own))
    first, second = to_type(hint)
    assert first == [*START, "--pod", "dc1", "--vllm", "--max-model-len", "16256", *own[2:]]
    assert second == [*START, "--pod", "dc1", "--vllm", *own, "--tensor-parallel-size", "2"]
    assert pi(*START, "--dry-run", *first[4:]).code == 0


def test_of_several_pods_the_one_that_failed_is_in_the_command(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    embed("dc1")
    that_says(embed("dc2"), of_workers(["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB."] * 2))
    result = pi(*START, "--pod", "dc1", "--pod", "dc2")
    assert result.code == 4
    assert error_of(result) == f"`{MODEL}` did not start on `dc2`: the model does not fit the GPU memory"
    [words] = to_type(hint_of(result))
    assert words == [*START, "--pod", "dc2", "--gpus", "2"]


def test_an_unknown_error_is_shown_by_the_first_traceback_and_the_last_twenty_lines(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 20."""
    log = of_the_engine("some.module.WeirdError: no luck")
    that_says(pod, log)
    result = pi(*START)
    assert result.code == 4
    assert error_of(result) == f"`{MODEL}` did not start on `dc1`: some.module.WeirdError: no luck"
    first, dots, *last = excerpt_of(result)
    assert (first, dots) == ("some.module.WeirdError: no luck", "…")
    assert last == log.splitlines()[-20:]
    assert last[-1] == LAUNCHER
    assert hint_of(result) == f"the whole log is on the pod: {pod.home}/.vllm_logs/q.log"


def test_a_known_error_is_shown_by_its_line_without_the_name_of_the_process(pi: Pi, pod: EmbeddedPod) -> None:
    that_says(pod, of_the_engine(KV_CACHE))
    first, dots, *last = excerpt_of(pi(*START))
    assert (first, dots, len(last)) == (KV_CACHE, "…", 5)


def test_a_death_without_output_is_shown_by_its_exit_code(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 22."""
    that_says(pod, BEGIN)
    result = pi(*START)
    assert (result.code, error_of(result)) == (4, f"`{MODEL}` did not start on `dc1`: vLLM exited with code 1")


def test_an_argument_vllm_does_not_know_is_named_and_left_out(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 21, where vLLM's parser accepted it before the start."""
    that_says(pod, "vllm: error: unrecognized arguments: --root-path /x\n")
    result = pi(*START, "--vllm", "--root-path", "/x", "--max-model-len", "4096")
    assert result.code == 4
    assert "vLLM does not know the argument `--root-path" in error_of(result)
    assert to_type(hint_of(result)) == [[*START, "--vllm", "--max-model-len", "4096"]]
    assert running(pod) == []


def test_a_parser_that_is_nearly_right_is_corrected(pi: Pi, pod: EmbeddedPod) -> None:
    own = ("--enable-auto-tool-choice", "--tool-call-parser")
    that_says(pod, of_the_engine("KeyError: 'invalid tool call parser: qwen3_xml (chose from { hermes,qwen3_coder })'"))
    result = pi(*START, "--vllm", *own, "qwen3_xml")
    assert error_of(result).endswith("vLLM has no tool-call parser `qwen3_xml`")
    [words] = to_type(hint_of(result))
    assert words == [*START, "--vllm", *own, "qwen3_coder"]


def test_a_gated_model_leads_to_its_licence_page(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 38."""
    result = pi("start", "gated/model", "--name", "q")
    assert result.code == 4
    assert "https://huggingface.co/gated/model" in hint_of(result)
    assert list((pod.home / ".pi" / "models").iterdir()) == []


def test_the_log_of_an_earlier_failure_is_kept_and_not_taken_for_todays(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 35."""
    pi(*START, "--vllm", "--simulate", "fail=oom")
    assert pi(*START).code == 0
    assert "out of memory" in (pod.home / ".vllm_logs" / "q.log.1").read_text()
    assert "out of memory" not in (pod.home / ".vllm_logs" / "q.log").read_text()


def test_the_holder_of_the_memory_is_named_before_anything_is_downloaded(
    pi: Pi, pod: EmbeddedPod, stranger: "subprocess.Popen[bytes]"
) -> None:
    """Fault 34."""
    gpus.allocate(pod.home, stranger.pid, {0: 73403, 1: 70000})
    result = pi(*START)
    assert result.code == 4
    holder = f"pid {stranger.pid} (VLLM::EngineCore: "
    assert f"GPU 0: 71.7 of 79.6 GiB are used by {holder}73,403 MiB); GPU 1: " in error_of(result)
    assert f"{holder}70,000 MiB)" in error_of(result)
    kill = f"`pi ssh dc1 kill {stranger.pid}`"
    assert hint_of(result).startswith(f"stop the processes that you do not need with {kill}; or ")
    assert not (pod.home / ".cache" / "huggingface").exists()


def test_memory_that_was_taken_since_the_plan_leaves_the_share_that_is_free(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 34."""
    that_says(pod, of_the_engine(GPU_BUSY))
    result = pi(*START, "--memory", "90%")
    assert error_of(result).endswith("the GPU is in use: 43.25 of 79.65 GiB are free")
    assert [*START, "--memory", "52%"] in to_type(hint_of(result))


def test_a_log_that_cannot_be_written_fails_the_start(pi: Pi, pod: EmbeddedPod) -> None:
    """Fault 41."""
    (pod.home / ".vllm_logs").write_text("not a folder")
    result = pi(*START)
    assert result.code == 4
    assert error_of(result) == f"`{MODEL}` did not start on `dc1`: cannot write {pod.home}/.vllm_logs: File exists"
    assert to_type(hint_of(result)) == [["ssh", "dc1", "ls", "-la", str(pod.home)]]
    assert not (pod.home / ".cache" / "huggingface").exists(), "that is found before anything is downloaded"
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert list((pod.home / ".pi" / "models").iterdir()) == []
    (pod.home / ".vllm_logs").unlink()
    assert pi(*START).code == 0


def test_a_failure_shows_nothing_on_stdout_but_json(pi: Pi, pod: EmbeddedPod) -> None:
    result = pi(*START, "--json", "--vllm", "--simulate", "fail=oom")
    assert (result.code, json.loads(result.out)) == (4, [])
    assert running(pod) == []

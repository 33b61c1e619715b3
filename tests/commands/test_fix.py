"""`pi start --fix`: what a diagnosis offers is tried, and only what changes neither the model nor who can reach it."""

import shlex
import signal
from collections.abc import Callable

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, Result, pods_json
from tests.diagnosis import kernel_rows
from tests.diagnosis.engine_log import of_the_engine, record
from tests.diagnosis.failure_rows import MODEL, simulated
from tests.openssh.at_work import pi_at
from tests.until import until

START = ("start", MODEL, "--name", "q")
KV_CACHE = of_the_engine(simulated("kv-cache"))
NO_KV = of_the_engine(simulated("no-kv"))
CUSTOM_CODE = of_the_engine(simulated("custom-code"))
DEEP_GEMM = of_the_engine("RuntimeError: DeepGEMM backend is not available or outdated. Please install it.")

COMPILE_CACHE = next(row.error for row in kernel_rows.ROWS if "torch_compile_cache and try again" in row.error)

CUSTOM_ALL_REDUCE = of_the_engine("Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:164 'invalid argument'")


def that_fails_first(pod: EmbeddedPod, *logs: str) -> None:
    """Let the pod's vLLM fail once with each of these logs, before it starts."""
    for number, log in enumerate(logs):
        (pod.home / f"said.{number}").write_text(log)
    program = pod.install("hf.same", "").with_name("vllm")
    pod.install("vllm.real", program.read_text())
    pod.install(
        "vllm",
        '#!/bin/sh\n[ "$1" = serve ] || exec vllm.real "$@"\n'
        "echo \"$(env | grep ^VLLM_USE_DEEP_GEMM= | tr '\\n' ' ')$*\" >> ~/launched\n"
        "said=~/said.$(($(wc -l < ~/launched) - 1))\n"
        'if [ -e "$said" ]; then cat "$said"; exit 1; fi\nexec vllm.real "$@"\n',
    )


def launched(pod: EmbeddedPod) -> list[str]:
    """Return the variable and the arguments of each launch."""
    path = pod.home / "launched"
    return path.read_text().splitlines() if path.exists() else []


def hint_of(result: Result) -> str:
    [hint] = [line for line in result.err.splitlines() if line.startswith("hint:")]
    return hint


def test_a_start_that_fails_is_repaired_and_said_so(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE)
    result = pi(*START, "--fix", "--context", "32k")
    assert result.code == 0, result.err
    assert "--max-model-len 16256" in launched(pod)[1]
    typed = f"pi start {MODEL} --name q --context 16256 --fix"
    assert "the context is too long for the GPU memory" in result.err
    assert f"trying `{typed}` (fix 1 of at most 2)" in result.err
    assert f"note: `q` on `dc1` was started with `{typed}`, since: the context is too long" in result.err
    assert result.out.startswith("ready `q`")
    assert result.err.count("downloading") <= 2, "the second attempt downloads nothing"


def test_what_was_really_started_is_recorded(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE)
    [started] = pi(*START, "--fix", "--json").json
    [fix] = started["fixes"]
    assert fix["cause"].startswith("the context is too long")
    assert shlex.split(fix["command"])[-3:] == ["--context", "16256", "--fix"]
    assert pods_json()["pods"]["dc1"]["models"]["q"]["command"]["context"] == "16256"
    [listed] = pi("list", "--json").json
    assert shlex.split(listed["command"]) == shlex.split(fix["command"])


def test_a_variable_is_set_and_the_models_arguments_stay(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, DEEP_GEMM)
    assert pi(*START, "--fix").code == 0
    first, second = launched(pod)
    assert second == f"VLLM_USE_DEEP_GEMM=0 {first}"


def test_arguments_that_pi_has_planned_become_the_users_own(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, CUSTOM_ALL_REDUCE)
    result = pi(*START, "--fix")
    assert result.code == 0, result.err
    first, second = launched(pod)
    assert "--disable-custom-all-reduce" in second
    assert "--tool-call-parser" in first
    assert "--tool-call-parser" in second


def test_of_two_remedies_the_second_is_tried_next_and_a_third_never(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE, NO_KV, NO_KV, NO_KV)
    result = pi(*START, "--fix", "--context", "32k")
    assert result.code == 4
    assert len(launched(pod)) == 3
    assert "(fix 2 of at most 2)" in result.err
    assert result.err.count("error:") == 1
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_code_of_a_model_is_never_trusted_for_the_user(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, CUSTOM_CODE)
    result = pi(*START, "--fix")
    assert result.code == 4
    assert len(launched(pod)) == 1
    assert "--trust-remote-code" in hint_of(result)
    assert "trying" not in result.err


def test_without_it_nothing_is_tried(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE)
    assert pi(*START).code == 4
    assert len(launched(pod)) == 1


def test_only_the_url_is_printed_and_what_has_changed(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE)
    result = pi(*START, "--fix", "-q")
    assert result.code == 0
    [note] = result.err.splitlines()
    assert note.startswith("note: `q` on `dc1` was started with `pi start")
    assert "ready" not in result.out


def test_each_of_several_pods_is_repaired_by_itself(pi: Pi, embed: Callable[..., EmbeddedPod]) -> None:
    one, two = embed("dc1"), embed("dc2")
    that_fails_first(two, KV_CACHE)
    result = pi(*START, "--fix", "--pod", "dc1", "--pod", "dc2", "--json")
    assert result.code == 0, result.err
    assert [len(each["fixes"]) for each in result.json] == [0, 1]
    assert "--pod dc2" in result.json[1]["fixes"][0]["command"]
    assert launched(one) == []
    assert len(launched(two)) == 2


def test_the_time_limit_is_for_all_attempts_together(pi: Pi, pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE)
    (pod.home / ".demo" / "vllm.json").write_text('{"seconds": 600}')
    result = pi(*START, "--fix", "--timeout", "30s")
    assert result.code == 4
    assert "was not ready within the 30 s of `--timeout`" in result.err
    assert len(launched(pod)) == 2


def test_ctrl_c_during_the_second_attempt_leaves_nothing(pod: EmbeddedPod) -> None:
    that_fails_first(pod, KV_CACHE)
    (pod.home / ".demo" / "vllm.json").write_text('{"seconds": 600}')
    with pi_at("(fix 1 of at most 2)", *START, "--fix") as process:
        until(lambda: len(launched(pod)) == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert [each for each in pod.processes() if "serve" in each.command] == []


def test_a_compile_cache_that_cannot_be_read_is_deleted_and_the_model_is_not(pi: Pi, pod: EmbeddedPod) -> None:
    broken = pod.home / ".cache/vllm/torch_compile_cache/8a6b9f2c1d/rank_0_0/vllm_compile_cache.py"
    used = f"Using cache directory: {broken.parent} for vLLM's torch.compile"
    that_fails_first(pod, of_the_engine(COMPILE_CACHE, before=record("EngineCore pid=71", "INFO", "a.py:1", used)))
    other = pod.home / ".cache/vllm/torch_compile_cache/ffffffffff/graph"
    for file in (broken, other):
        file.parent.mkdir(parents=True)
        file.write_text("x" * 5000)
    result = pi(*START, "--fix")
    assert result.code == 0, result.err
    assert f"trying `pi start {MODEL} --name q --clean-cache --fix`" in result.err
    assert f"deleted compiled code: {broken.parents[1]} (8.2 kB, 1 file)" in result.err
    assert not broken.exists()
    assert other.exists()
    assert "--clean-cache" not in pi("list", "--json").json[0]["command"]


def test_the_compile_cache_is_deleted_when_asked(pi: Pi, pod: EmbeddedPod) -> None:
    cache = pod.home / ".triton/cache/KERNEL/kernel.cubin"
    cache.parent.mkdir(parents=True)
    cache.write_text("x")
    assert "deleted compiled code: " in pi(*START, "--clean-cache").err
    assert not cache.exists()
    assert pi("stop", "q").code == 0
    assert "there is no compiled code to delete" in pi(*START, "--clean-cache").err


def test_it_is_kept_while_another_model_is_starting(pi: Pi, pod: EmbeddedPod) -> None:
    (pod.home / ".demo" / "vllm.json").write_text('{"seconds": 600}')
    assert pi("start", MODEL, "--name", "other", "--memory", "40%", "--detach").code == 0
    result = pi(*START, "--memory", "40%", "--clean-cache")
    assert result.code == 1
    assert "`other` may be reading it while starting" in result.err
    assert "pi start --attach other --pod dc1" in hint_of(result)
    assert list(pods_json()["pods"]["dc1"]["models"]) == ["other"]


@pytest.mark.parametrize("words", [("--detach",), ("--attach", "q")], ids=["detach", "attach"])
def test_a_start_that_is_not_waited_for_cannot_be_repaired(pi: Pi, pod: EmbeddedPod, words: tuple[str, ...]) -> None:
    del pod
    begin = () if "--attach" in words else START[1:]
    assert pi("start", *begin, "--fix", *words).code == 2

"""The line that tells, wherever it stands in an error's message; and the place of an error that tells nothing."""

import pytest

from pi_cli.diagnosis import causes, messages
from pi_cli.diagnosis.causes import Cause
from tests.diagnosis.engine_log import BEGIN, LAUNCHER, of_the_engine, raw, traceback
from tests.diagnosis.failure_rows import COMMAND, MODEL, START

SITE = "/root/venv/lib/python3.12/site-packages"


def cause_of(log: str, *, was_serving: bool = False, with_command: bool = True) -> Cause:
    command = COMMAND if with_command else None
    cause = causes.find(log, pod="dc1", model=MODEL, command=command, was_serving=was_serving)
    assert cause
    return cause


def raised_in(place: str, function: str, error: str) -> str:
    """Write the log of an engine whose error has one frame."""
    return (
        f'{BEGIN}Traceback (most recent call last):\n  File "{SITE}/{place}", line 7, in {function}\n    x()\n{error}\n'
    )


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["ValueError: no"], "ValueError: no"),
        (["ValueError: no", "and more of it"], "ValueError: no"),
        (
            ["triton.compiler.errors.CompilationError: at 1:0:", "def kernel(", "^", 'ValueError("type x is missing")'],
            '"type x is missing"',
        ),
        (
            ["torch._dynamo.exc.BackendCompilerFailed: backend='x' raised:", "AssertionError: no hash", "", "Set X=1"],
            "AssertionError: no hash",
        ),
        (
            [
                "RuntimeError: Ninja build failed. Ninja output:",
                "ninja: Entering directory `/x'",
                "x.cu(3): error: no y",
            ],
            "error: no y",
        ),
        (
            ["terminate called after throwing an instance of 'std::runtime_error'", "  what():  no such device"],
            "no such device",
        ),
        (
            ["ValidationError: 1 validation error for ModelConfig", "  Value error, no such x [type=value_error, …]"],
            "no such x [type=value_error, …]",
        ),
        (["ImportError: it failed with the following error:", "", "    it is broken"], "it is broken"),
    ],
    ids=range(8),
)
def test_the_line_that_tells(lines: list[str], told: str) -> None:
    assert messages.telling(lines) == told


def test_an_announced_exception_is_a_part_of_the_message() -> None:
    error = "torch._dynamo.exc.BackendCompilerFailed: backend='x' raised:\nRuntimeError: a graph with no output"
    assert cause_of(of_the_engine(error)).summary == "the model cannot be compiled: a graph with no output"


def test_an_exception_without_a_message_is_named_with_its_place() -> None:
    log = raised_in("vllm/v1/core/sched/scheduler.py", "schedule", "AssertionError")
    assert cause_of(log).summary == "AssertionError in vllm/v1/core/sched/scheduler.py:7, in schedule"
    assert cause_of(log).hint is None


def test_a_part_of_vllm_that_failed_can_be_left_out() -> None:
    place = "vllm/distributed/kv_transfer/kv_connector/v1/offloading/scheduler.py"
    log = raised_in(place, "update_state", "AssertionError")
    assert cause_of(log, with_command=False).hint == "leave out KV cache offloading, if it is switched on"
    assert cause_of(log).hint == "leave out KV cache offloading, if it is switched on"
    offloading = COMMAND.with_vllm_option(["--kv-offloading-size"], "20")
    cause = causes.find(log, pod="dc1", model=MODEL, command=offloading)
    assert cause
    assert cause.hint
    assert cause.hint.startswith(f"leave out KV cache offloading: `{START} --vllm")
    assert "--kv-offloading-size" not in cause.hint


def test_memory_that_only_the_graphs_lack_needs_no_more_gpus() -> None:
    out_of_memory = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 136.00 MiB."
    of_weights = cause_of(raised_in("vllm/model_executor/model_loader/utils.py", "load_model", out_of_memory))
    of_graphs = cause_of(raised_in("vllm/v1/worker/gpu_worker.py", "compile_or_warm_up_model", out_of_memory))
    assert of_weights.summary == "the model does not fit the GPU memory"
    assert of_graphs.summary.startswith("the weights and the KV cache fit")
    assert of_graphs.hint
    assert f"{START} --memory 87%" in of_graphs.hint
    assert "--gpus" not in of_graphs.hint


def test_what_a_process_says_when_it_crashes_is_the_cause() -> None:
    """A crash is not an exception, and the other processes only report that it is gone."""
    died = "(EngineCore pid=71) ERROR 05-20 09:00:03 [a.py:3] Worker proc VllmWorker-1 died unexpectedly"
    crash = "!!!!!!! Segfault encountered !!!!!!!\n" + '  File "misc/cudawrap.cc", line 92, in ncclCuMemHostEnable()\n'
    log = BEGIN + crash + died + "\n" + raw("APIServer pid=7", traceback(LAUNCHER))
    cause = cause_of(log)
    assert cause.summary == "a process of vLLM crashed in NCCL (signal 11)"
    assert cause.line == 'File "misc/cudawrap.cc", line 92, in ncclCuMemHostEnable()'


def test_a_toolkit_that_is_too_old_is_named_where_flashinfer_names_the_gpu() -> None:
    before = raw("EngineCore pid=71", "Failed to get device capability: SM 12.x requires CUDA >= 12.9.")
    cause = cause_of(of_the_engine("RuntimeError: FlashInfer requires GPUs with sm75 or higher", before=before))
    assert cause.summary == "the pod's CUDA toolkit is too old for its GPUs (SM 12.x): FlashInfer needs 12.9 or newer"


@pytest.mark.parametrize(
    "error",
    [
        "ValueError: Failed to resolve the decoder's control tokens with the configured tokenizer.",
        "MemoryError: Not enough space in the data buffer, try calling free_buf() to free up space",
    ],
)
def test_words_of_a_known_cause_in_another_message_mean_nothing(error: str) -> None:
    assert not cause_of(of_the_engine(error)).is_known


def test_a_backend_that_the_user_chose_is_left_to_vllm() -> None:
    error = "NotImplementedError: No FP8 MoE backend supports the deployment configuration."
    chosen = COMMAND.with_vllm_option(["--moe-backend"], "cutlass")
    cause = causes.find(of_the_engine(error), pod="dc1", model=MODEL, command=chosen)
    assert cause
    assert cause.hint
    assert cause.hint.startswith("let vLLM choose the kernels")
    assert "cutlass" not in cause.hint

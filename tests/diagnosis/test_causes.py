"""The cause of a failed start in vLLM's log: its line, and not what only looks like a cause."""

import re
import shlex

import pytest

from pi_cli.demo.engine import failures
from pi_cli.diagnosis import causes
from pi_cli.diagnosis.causes import Cause
from tests.diagnosis.engine_log import BEGIN, of_the_engine, of_the_server, of_workers, raw, record, traceback
from tests.every import every

OUT_OF_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.16 GiB. GPU 0 has a total capacity of …"
)
NO_FIT = "the model does not fit the GPU memory"
KV_CACHE = failures.KNOWN["kv-cache"].text
FILLED = {"size": "8", "count": "4", "name": "nope", "known": "hermes,mistral", "model": "meta/x", "context": "131072"}
FILLED |= {"device": "cuda:0", "free": "3.25", "total": "79.65", "utilization": "0.92", "wanted": "73.28"}


def cause_of(log: str, model: str = "m/m") -> Cause:
    cause = causes.find(log, pod="dc1", model=model)
    assert cause is not None
    return cause


def test_the_first_error_of_the_engine_counts_and_not_the_last_of_the_launcher() -> None:
    """Fault 20."""
    cause = cause_of(of_the_engine(KV_CACHE))
    assert cause.summary == (
        "the context is too long for the GPU memory: one request needs 8.0 GiB of KV cache, 0.99 GiB are left"
    )
    assert cause.line.startswith("ValueError: To serve at least one request with the model's max seq len (131072)")
    assert cause.is_known


@every(failures.KNOWN)
def test_every_failure_of_the_simulated_vllm_is_known(name: str) -> None:
    failure = failures.KNOWN[name]
    text = failure.text
    for key, value in FILLED.items():
        text = text.replace(f"{{{key}}}", value)
    is_servers = failure.where in (failures.ARGUMENTS, failures.BIND, failures.CONFIG, failures.READY)
    cause = cause_of(of_the_server(text) if is_servers else of_the_engine(text))
    assert cause.is_known
    assert cause.hint is not None
    assert "{" not in cause.summary + cause.hint
    assert cause.line in text


def test_an_unknown_error_is_summarised_by_the_first_traceback() -> None:
    log = of_the_engine("some.module.WeirdError: no luck\nand more", "raise WeirdError('No space left on device')")
    cause = cause_of(log)
    assert (cause.summary, cause.line, cause.hint) == ("some.module.WeirdError: no luck",) * 2 + (None,)
    assert not cause.is_known


def test_of_chained_tracebacks_the_first_counts() -> None:
    first, second = traceback("ValueError: the first"), traceback("RuntimeError: the second")
    chained = f"{first}\n\nThe above exception was the direct cause of the following exception:\n\n{second}"
    assert cause_of(BEGIN + raw("APIServer pid=7", chained)).summary == "ValueError: the first"


def test_a_rejected_setting_is_reported_with_the_reason() -> None:
    validation_error = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig\ncache_dtype\n"
        "  Input should be 'auto', 'bfloat16' or 'fp8' [type=literal_error, input_value='float16', input_type=str]\n"
        "    For further information visit https://errors.pydantic.dev/2.13/v/literal_error"
    )
    cause = cause_of(of_the_server(validation_error))
    summary = "vLLM rejected its arguments (CacheConfig): cache_dtype Input should be 'auto', 'bfloat16' or 'fp8'"
    assert cause.summary == summary


def test_a_log_without_an_error_has_no_cause() -> None:
    assert causes.find(BEGIN, pod="dc1", model="m/m") is None
    assert causes.find("", pod="dc1", model="m/m") is None


def test_the_interleaved_lines_of_failed_workers_are_separated() -> None:
    cause = cause_of(of_workers([OUT_OF_MEMORY, OUT_OF_MEMORY.replace("GPU 0", "GPU 1")]))
    assert cause.summary == NO_FIT
    assert cause.line == OUT_OF_MEMORY


def test_a_worker_that_lost_the_others_is_not_the_cause() -> None:
    lost = "torch.distributed.DistNetworkError: failed to recv, got 0 bytes. Connection was closed by peer"
    assert cause_of(of_workers([lost, OUT_OF_MEMORY])).summary == NO_FIT
    assert cause_of(of_workers([lost, "WeirdError: no luck"])).summary == "WeirdError: no luck"


# What only looks like a cause

RETRIED = raw("APIServer pid=7", "HTTP Error 429 thrown while requesting HEAD https://huggingface.co/m/m/resolve/x")
RETRIED += raw("APIServer pid=7", "Retrying in 1s [Retry 1/5].")
WARNED = record("APIServer pid=7", "WARNING", "x.py:1", "429 Too Many Requests: retrying\nNo space left on device")
PORT = record("APIServer pid=7", "INFO", "x.py:1", "OSError: [Errno 98] Address already in use: trying the next port")
BROADCAST = record(
    "EngineCore pid=71",
    "INFO",
    "shm_broadcast.py:705",
    "No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are "
    "hanging or doing some time-consuming work (e.g. compilation, weight/kv cache quantization).",
)
CONFIG = record(
    "APIServer pid=7",
    "ERROR",
    "repo_utils.py:126",
    "Error parsing config for m/m: 429 Too Many Requests: you have reached your 'api' rate limit., retrying 1 of 2",
)
LIMIT = record(
    "APIServer pid=7",
    "WARNING",
    "system_utils.py:255",
    "Found ulimit of 1024. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`.",
)
PLATFORM = (
    "WARNING 11-23 13:31:38 [_custom_ops.py:18] Failed to import from vllm._C with ImportError('libcuda.so.1: …')\n"
)
TUNING = raw(
    "EngineCore pid=71",
    "E1123 13:31:50.1 71 select_algorithm.py:2017] [0/0] Runtime error during autotuning:\n"
    "OutOfMemoryError: out of resource: triton_mm Required: 264192 Hardware limit:101376",
)
USAGE = raw(
    "APIServer pid=7",
    "Exception in thread Thread-1 (_report_usage_worker):\n"
    + traceback("httpx.ConnectError: [Errno -3] Temporary failure in name resolution"),
)
WEIRD = "WeirdError: no luck"


@pytest.mark.parametrize(
    "before", [RETRIED, WARNED, PORT, BROADCAST, PLATFORM, USAGE, CONFIG, LIMIT], ids=lambda text: text[:60]
)
def test_a_warning_does_not_hide_a_later_error(before: str) -> None:
    assert cause_of(of_the_engine(OUT_OF_MEMORY, before=before)).summary == NO_FIT
    assert cause_of(of_the_engine(WEIRD, before=before)).summary == WEIRD
    assert causes.find(BEGIN + before, pod="dc1", model="m/m") is None


def test_a_kernel_that_is_too_large_for_a_gpu_is_not_a_lack_of_memory() -> None:
    assert cause_of(of_the_engine(KV_CACHE, before=TUNING)).summary.startswith("the context is too long")
    assert cause_of(of_the_engine(WEIRD, before=TUNING)).summary == WEIRD


def test_source_code_in_a_traceback_is_not_an_error() -> None:
    quoted = ["raise OSError(28, 'No space left on device')", 'raise ValueError("CUDA out of memory")']
    assert cause_of(of_the_engine(WEIRD, *quoted)).summary == WEIRD


def test_progress_bars_and_colours_do_not_hide_an_error() -> None:
    bar = "\r(Worker pid=80) Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]"
    assert cause_of(f"{BEGIN}{bar}{bar}\n\x1b[1;31m{OUT_OF_MEMORY}\x1b[0m\n").line == OUT_OF_MEMORY


# Errors that report only a consequence


def test_the_warning_of_nccl_explains_its_error() -> None:
    error = "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"
    warned = raw(
        "Worker_TP0 pid=80",
        "pod:80:80 [0] misc/shmutils.cc:87 NCCL WARN Error while creating shared memory segment /dev/shm/nccl-KzYv4B",
    )
    assert cause_of(of_the_engine(error)).summary == "NCCL could not connect the GPUs with each other"
    cause = cause_of(of_the_engine(error, before=warned))
    assert cause.summary == "the pod's shared memory, /dev/shm, is too small"
    assert "NCCL WARN Error while creating shared memory segment" in cause.line


def test_the_output_of_a_compiler_explains_the_error_of_its_call() -> None:
    error = "torch._inductor.exc.InductorError: CalledProcessError: Command '['/usr/bin/gcc', '/tmp/x/cuda_utils.c']' …"
    compiler = raw("EngineCore pid=71", "/tmp/x/cuda_utils.c:9:10: fatal error: Python.h: No such file or directory")
    assert cause_of(of_the_engine(error)).summary == "a kernel could not be compiled on the pod"
    assert "no headers (Python.h)" in cause_of(of_the_engine(error, before=compiler)).summary


def test_a_model_that_could_not_be_inspected_shows_the_error_of_the_inspection() -> None:
    inspecting = record(
        "APIServer pid=7",
        "ERROR",
        "registry.py:1100",
        "Error in inspecting model architecture 'Gemma4ForConditionalGeneration'\n"
        + traceback(
            "subprocess.CalledProcessError: Command '['/root/venv/bin/python3', …]' returned non-zero exit status 1."
        )
        + "\n\nThe above exception was the direct cause of the following exception:\n\n"
        + traceback("RuntimeError: Error raised in subprocess:")
        + "\n"
        + traceback("ImportError: libGL.so.1: cannot open shared object file: No such file or directory"),
    )
    error = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  Value error, Model "
        "architectures ['Gemma4ForConditionalGeneration'] failed to be inspected. Please check the logs for more "
        "details. [type=value_error, input_value=ArgsKwargs((), {'model': '…'}), input_type=ArgsKwargs]"
    )
    cause = cause_of(inspecting + of_the_server(error))
    assert cause.summary == "this vLLM cannot load its code for `Gemma4ForConditionalGeneration`"
    assert cause.line.startswith("ImportError: libGL.so.1")


# Processes that die without an error message


@pytest.mark.parametrize(
    ("codes", "summary"),
    [
        ("{'EngineCore': -9}", "the engine was killed by signal 9 (out of host memory?)"),
        ("{'EngineCore_DP0': -4}", "the machine's processor lacks instructions that this vLLM needs"),
        ("{'EngineCore': -11}", "the engine crashed (signal 11), which is not a lack of memory"),
        ("{'EngineCore': -7}", "the engine was killed by signal 7 (out of shared memory?)"),
        ("{'EngineCore': -15}", "the engine was killed by signal 15"),
    ],
)
def test_the_launcher_reports_an_engine_that_was_killed(codes: str, summary: str) -> None:
    """Fault 22."""
    launcher = f"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {codes}"
    assert cause_of(BEGIN + raw("APIServer pid=7", traceback(launcher))).summary == summary


@pytest.mark.parametrize(
    ("code", "summary"),
    [
        ("", "the engine's worker `VllmWorker-1` died without an error message"),
        (" (exit code: None)", "the engine's worker `VllmWorker-1` died without an error message"),
        (" (exit code: -9)", "the engine was killed by signal 9 (out of host memory?)"),
        (" (exit code: -11)", "the engine crashed (signal 11), which is not a lack of memory"),
    ],
)
def test_the_executor_reports_a_worker_that_died(code: str, summary: str) -> None:
    """Fault 22. A lack of memory is said only of signal 9."""
    died = f"Worker proc VllmWorker-1 died unexpectedly{code}, shutting down executor."
    log = of_the_engine(
        "RuntimeError: cancelled", before=record("EngineCore pid=71", "ERROR", "multiproc_executor.py:1", died)
    )
    assert cause_of(log).summary == summary


def test_a_process_that_no_other_process_reports_died_without_a_message() -> None:
    """Fault 22: measured with a worker of 0.32 that was killed while it loaded."""
    unreported = of_workers([]).replace("{'EngineCore': 1}", "{}")
    cause = cause_of(unreported)
    assert cause.summary == "a process of the engine died without an error message"
    assert cause.hint
    assert "dmesg" in cause.hint


@pytest.mark.parametrize(
    ("code", "signal", "summary"),
    [
        (None, 9, "vLLM was killed by signal 9 (out of host memory?)"),
        (None, 11, "vLLM was killed by signal 11 (it crashed)"),
        (None, 35, "vLLM was killed by signal 35"),
        (3, None, "vLLM exited with code 3"),
    ],
)
def test_an_exit_without_a_log_is_described(code: int | None, signal: int | None, summary: str) -> None:
    assert causes.describe_end(code, signal) == summary


# Models that had been ready

SERVING = BEGIN + raw("APIServer pid=7", "INFO:     Application startup complete.")
REQUEST = record(
    "APIServer pid=7", "ERROR", "serving.py:283", traceback("ValueError: The prompt is too long: 50000 tokens")
)


def test_the_errors_of_requests_are_not_the_cause_of_an_exit() -> None:
    assert causes.find(SERVING + REQUEST, pod="dc1", model="m/m") is None


def test_the_end_of_a_log_can_be_that_of_a_serving_model() -> None:
    fatal = record(
        "EngineCore pid=71", "ERROR", "core.py:1517", "EngineCore encountered a fatal error.\n" + traceback(WEIRD)
    )
    assert causes.find(REQUEST, pod="dc1", model="m/m", was_serving=True) is None
    assert cause_of(REQUEST).summary == "ValueError: The prompt is too long: 50000 tokens"
    died = causes.find(REQUEST + fatal, pod="dc1", model="m/m", was_serving=True)
    assert died is not None
    assert died.summary == WEIRD


def test_the_engine_reports_why_a_serving_model_died() -> None:
    fatal = record(
        "EngineCore pid=71", "ERROR", "core.py:1517", "EngineCore encountered a fatal error.\n" + traceback(WEIRD)
    )
    assert cause_of(SERVING + REQUEST + fatal + REQUEST).summary == WEIRD
    worker = record("Worker_TP1 pid=81", "ERROR", "x.py:1", "WorkerProc hit an exception.\n" + traceback(OUT_OF_MEMORY))
    assert (
        cause_of(SERVING + REQUEST + worker + fatal.replace(WEIRD, "RuntimeError: Worker failed with error")).summary
        == NO_FIT
    )


# What is shown


def test_the_hint_for_a_gated_model_names_its_own_page() -> None:
    """Fault 38."""
    hf = "Error: Access denied. Model 'meta/x' requires approval.\nHint: set HF_DEBUG=1"
    assert "https://huggingface.co/meta/x" in (cause_of(hf, model="meta/x").hint or "")
    drafter = failures.KNOWN["gated-403"].text.replace("{model}", "meta/drafter")
    assert "https://huggingface.co/meta/drafter with" in (cause_of(of_the_server(drafter), model="meta/x").hint or "")
    at_mirror = drafter.replace("https://huggingface.co", "http://127.0.0.1:8123")
    assert "http://127.0.0.1:8123/meta/drafter with" in (cause_of(of_the_server(at_mirror)).hint or "")


def test_a_line_that_lists_everything_is_shortened() -> None:
    listed = ", ".join(f"'Architecture{number}ForCausalLM'" for number in range(300))
    error = f"ValueError: Model architectures ['New'] are not supported for now. Supported architectures: [{listed}]"
    assert len(cause_of(of_the_server(error)).line) == causes.MAX_LINE + 1


@pytest.mark.parametrize(
    "error",
    [
        "PermissionError: [Errno 13] Permission denied: '/x; rm -rf ~'",
        "ModuleNotFoundError: No module named 'a; rm -rf ~'",
        "packages that were not found in your environment: a. Run `pip install a; rm -rf ~`",
        "packages that were not found in your environment: a. Run `pip install -r /x; rm -rf ~`",
    ],
)
def test_no_text_from_a_log_becomes_a_command(error: str) -> None:
    assert "rm" not in re.split(r"\W+", cause_of(of_the_engine(error)).hint or "")


@pytest.mark.parametrize(
    "error",
    [
        "vllm: error: unrecognized arguments: {}",
        "vllm serve: error: argument --dtype: invalid choice: '{}' (choose from 'auto', 'half')",
        "ValueError: Model architectures ['{}'] are not supported for now.",
        "ValueError: Invalid repository ID or local directory specified: '{}'.",
        "cannot run /root/venv/bin/vllm: {}",
    ],
)
@pytest.mark.parametrize("text", ["x`;rm", "x`rm`", "$(rm)"])
def test_no_text_from_a_log_ends_a_command_or_a_name_in_backticks(error: str, text: str) -> None:
    harmless, hostile = cause_of(of_the_engine(error.format("x"))), cause_of(of_the_engine(error.format(text)))
    assert hostile.summary.count("`") == harmless.summary.count("`")
    assert hostile.hint == harmless.hint


def test_packages_that_a_models_code_needs_become_words_of_their_own() -> None:
    error = (
        "ImportError: This modeling file requires the following packages that were not found in your environment: "
        "einops, open_clip. Run `pip install einops open_clip`"
    )
    [command] = re.findall("`(pi [^`]*)`", cause_of(of_the_engine(error)).hint or "")
    assert shlex.split(shlex.split(command)[3])[-2:] == ["einops", "open_clip"]


def test_the_last_lines_of_a_log_contain_only_the_final_state_of_progress_bars() -> None:
    assert causes.last_lines("a\r50 %\r100 %\n\nb\n", 2) == "100 %\nb"

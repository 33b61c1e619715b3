"""The cause of a failed start, out of vLLM's log: its line, and nothing that merely looks like it."""

import pytest

from pi_cli.demo.engine import failures
from pi_cli.diagnosis import causes
from pi_cli.diagnosis.causes import Cause
from tests.diagnosis.engine_log import BEGIN, of_the_engine, of_the_server, of_workers, raw, said, traceback

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


def test_the_engines_first_error_counts_not_the_launchers_last() -> None:
    """Fault 20."""
    cause = cause_of(of_the_engine(KV_CACHE))
    assert cause.summary == (
        "the context is too long for the GPU memory: one request needs 8.0 GiB of KV cache and 0.99 GiB are left"
    )
    assert cause.line.startswith("ValueError: To serve at least one request with the model's max seq len (131072)")
    assert cause.is_known


@pytest.mark.parametrize("name", failures.KNOWN)
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


def test_an_unknown_error_is_told_by_the_first_traceback() -> None:
    log = of_the_engine("some.module.WeirdError: no luck\nand more", "raise WeirdError('No space left on device')")
    cause = cause_of(log)
    assert (cause.summary, cause.line, cause.hint) == ("some.module.WeirdError: no luck",) * 2 + (None,)
    assert not cause.is_known


def test_of_chained_tracebacks_the_first_is_told() -> None:
    first, second = traceback("ValueError: the first"), traceback("RuntimeError: the second")
    chained = f"{first}\n\nThe above exception was the direct cause of the following exception:\n\n{second}"
    assert cause_of(BEGIN + raw("APIServer pid=7", chained)).summary == "ValueError: the first"


def test_a_refused_setting_is_told_with_its_reason() -> None:
    said_by_pydantic = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig\ncache_dtype\n"
        "  Input should be 'auto', 'bfloat16' or 'fp8' [type=literal_error, input_value='float16', input_type=str]\n"
        "    For further information visit https://errors.pydantic.dev/2.13/v/literal_error"
    )
    cause = cause_of(of_the_server(said_by_pydantic))
    told = "vLLM refused its arguments (CacheConfig): cache_dtype Input should be 'auto', 'bfloat16' or 'fp8'"
    assert cause.summary == told


def test_a_log_without_an_error_has_no_cause() -> None:
    assert causes.find(BEGIN, pod="dc1", model="m/m") is None
    assert causes.find("", pod="dc1", model="m/m") is None


def test_workers_that_fail_at_once_speak_between_each_others_lines() -> None:
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
WARNED = said("APIServer pid=7", "WARNING", "x.py:1", "429 Too Many Requests: retrying\nNo space left on device")
PORT = said("APIServer pid=7", "INFO", "x.py:1", "OSError: [Errno 98] Address already in use: trying the next port")
BROADCAST = said(
    "EngineCore pid=71",
    "INFO",
    "shm_broadcast.py:705",
    "No available shared memory broadcast block found in 60 seconds. This typically happens when some processes are "
    "hanging or doing some time-consuming work (e.g. compilation, weight/kv cache quantization).",
)
CONFIG = said(
    "APIServer pid=7",
    "ERROR",
    "repo_utils.py:126",
    "Error parsing config for m/m: 429 Too Many Requests: you have reached your 'api' rate limit., retrying 1 of 2",
)
LIMIT = said(
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
def test_what_is_merely_a_warning_does_not_beat_a_later_error(before: str) -> None:
    assert cause_of(of_the_engine(OUT_OF_MEMORY, before=before)).summary == NO_FIT
    assert cause_of(of_the_engine(WEIRD, before=before)).summary == WEIRD
    assert causes.find(BEGIN + before, pod="dc1", model="m/m") is None


def test_a_kernel_that_is_too_large_for_a_gpu_is_no_lack_of_memory() -> None:
    assert cause_of(of_the_engine(KV_CACHE, before=TUNING)).summary.startswith("the context is too long")
    assert cause_of(of_the_engine(WEIRD, before=TUNING)).summary == WEIRD


def test_source_code_in_a_traceback_is_not_an_error() -> None:
    quoted = ["raise OSError(28, 'No space left on device')", 'raise ValueError("CUDA out of memory")']
    assert cause_of(of_the_engine(WEIRD, *quoted)).summary == WEIRD


def test_progress_bars_and_colours_do_not_hide_an_error() -> None:
    bar = "\r(Worker pid=80) Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]"
    assert cause_of(f"{BEGIN}{bar}{bar}\n\x1b[1;31m{OUT_OF_MEMORY}\x1b[0m\n").line == OUT_OF_MEMORY


# Errors that say only what followed from something


def test_nccls_own_warning_says_what_its_error_does_not() -> None:
    error = "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)"
    warned = raw(
        "Worker_TP0 pid=80",
        "pod:80:80 [0] misc/shmutils.cc:87 NCCL WARN Error while creating shared memory segment /dev/shm/nccl-KzYv4B",
    )
    assert cause_of(of_the_engine(error)).summary == "the GPUs could not be connected with each other (NCCL)"
    cause = cause_of(of_the_engine(error, before=warned))
    assert cause.summary == "the pod's shared memory, /dev/shm, is too small"
    assert "NCCL WARN Error while creating shared memory segment" in cause.line


def test_a_compiler_says_what_the_error_of_its_call_does_not() -> None:
    error = "torch._inductor.exc.InductorError: CalledProcessError: Command '['/usr/bin/gcc', '/tmp/x/cuda_utils.c']' …"
    compiler = raw("EngineCore pid=71", "/tmp/x/cuda_utils.c:9:10: fatal error: Python.h: No such file or directory")
    assert cause_of(of_the_engine(error)).summary == "a kernel could not be compiled on the pod"
    assert "no Python.h" in cause_of(of_the_engine(error, before=compiler)).summary


def test_a_model_that_could_not_be_inspected_shows_the_error_of_the_inspection() -> None:
    inspecting = said(
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


# Processes that die without a word


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ("{'EngineCore': -9}", "the engine was killed by signal 9 (out of host memory?)"),
        ("{'EngineCore_DP0': -4}", "the machine's processor lacks instructions that this vLLM needs"),
        ("{'EngineCore': -11}", "the engine was killed by signal 11"),
    ],
)
def test_an_engine_that_was_killed_is_told_by_the_launcher(codes: str, words: str) -> None:
    """Fault 22."""
    launcher = f"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {codes}"
    assert cause_of(BEGIN + raw("APIServer pid=7", traceback(launcher))).summary == words


def test_a_worker_that_was_killed_is_told_by_the_executor() -> None:
    """Fault 22."""
    died = "Worker proc VllmWorker-1 died unexpectedly, shutting down executor."
    log = of_the_engine(
        "RuntimeError: cancelled", before=said("EngineCore pid=71", "ERROR", "multiproc_executor.py:1", died)
    )
    assert cause_of(log).summary == "the engine's worker `VllmWorker-1` was killed (out of host memory?)"


def test_a_process_that_was_killed_without_anybody_knowing_is_guessed() -> None:
    """Fault 22: measured with a worker of 0.32 that was killed while it loaded."""
    nobody_knows = of_workers([]).replace("{'EngineCore': 1}", "{}")
    assert cause_of(nobody_knows).summary == "a process of the engine died without a word (out of host memory?)"


@pytest.mark.parametrize(
    ("code", "signal", "words"),
    [
        (None, 9, "vLLM was killed by signal 9 (out of host memory?)"),
        (None, 11, "vLLM was killed by signal 11 (it crashed)"),
        (None, 35, "vLLM was killed by signal 35"),
        (3, None, "vLLM ended with exit code 3"),
    ],
)
def test_how_a_silent_death_is_told(code: int | None, signal: int | None, words: str) -> None:
    assert causes.describe_end(code, signal) == words


# Models that had been ready

LIVED = BEGIN + raw("APIServer pid=7", "INFO:     Application startup complete.")
REQUEST = said(
    "APIServer pid=7", "ERROR", "serving.py:283", traceback("ValueError: The prompt is too long: 50000 tokens")
)


def test_what_was_wrong_with_requests_did_not_kill_a_model() -> None:
    assert causes.find(LIVED + REQUEST, pod="dc1", model="m/m") is None


def test_a_model_that_dies_while_it_serves_is_told_by_its_engine() -> None:
    fatal = said(
        "EngineCore pid=71", "ERROR", "core.py:1517", "EngineCore encountered a fatal error.\n" + traceback(WEIRD)
    )
    assert cause_of(LIVED + REQUEST + fatal + REQUEST).summary == WEIRD
    worker = said("Worker_TP1 pid=81", "ERROR", "x.py:1", "WorkerProc hit an exception.\n" + traceback(OUT_OF_MEMORY))
    assert (
        cause_of(LIVED + REQUEST + worker + fatal.replace(WEIRD, "RuntimeError: Worker failed with error")).summary
        == NO_FIT
    )


# What is shown


def test_a_gated_model_leads_to_its_own_page() -> None:
    """Fault 38."""
    hf = "Error: Access denied. Model 'meta/x' requires approval.\nHint: set HF_DEBUG=1"
    assert "https://huggingface.co/meta/x" in (cause_of(hf, model="meta/x").hint or "")
    drafter = failures.KNOWN["gated-403"].text.replace("{model}", "meta/drafter")
    assert "https://huggingface.co/meta/drafter with" in (cause_of(of_the_server(drafter), model="meta/x").hint or "")
    at_mirror = drafter.replace("https://huggingface.co", "http://127.0.0.1:8123")
    assert "http://127.0.0.1:8123/meta/drafter with" in (cause_of(of_the_server(at_mirror)).hint or "")


def test_a_line_that_lists_all_that_there_is_is_cut() -> None:
    listed = ", ".join(f"'Architecture{number}ForCausalLM'" for number in range(300))
    error = f"ValueError: Model architectures ['New'] are not supported for now. Supported architectures: [{listed}]"
    assert len(cause_of(of_the_server(error)).line) == causes.LINE + 1


def test_nothing_of_a_log_becomes_a_command() -> None:
    evil = "PermissionError: [Errno 13] Permission denied: '/x; rm -rf ~'"
    assert cause_of(of_the_engine(evil)).hint is None
    assert (
        "rm" not in (cause_of(of_the_engine("ModuleNotFoundError: No module named 'a; rm -rf ~'")).hint or "").split()
    )


def test_the_end_of_a_log_is_shown_without_progress_bars_rewritten() -> None:
    assert causes.last_lines("a\r50 %\r100 %\n\nb\n", 2) == "100 %\nb"

"""The cause of a failed start, out of vLLM's log."""

from pi_cli.models import diagnosis

PREFIX = "(EngineCore pid=71) ERROR 11-23 13:31:46 [core.py:1510] "
LAUNCHER = (
    "(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
)


def test_the_engines_first_error_counts_not_the_launchers_last() -> None:
    log = (
        "(EngineCore pid=71) Traceback (most recent call last):\n"
        f"{PREFIX}ValueError: To serve at least one request with the model's max seq len (131072), (8.0 GiB KV cache "
        "is needed, which is larger than the available KV cache memory (0.99 GiB). Based on the available memory, the "
        "estimated maximum model length is 16256. Try increasing `gpu_memory_utilization`\n" + LAUNCHER
    )
    cause = diagnosis.find_cause(log, pod="dc1", model="m/m")
    assert cause is not None
    assert cause.words.endswith("one request needs 8.0 GiB of KV cache and 0.99 GiB are left")
    assert cause.hint is not None
    assert "--max-model-len 16256" in cause.hint
    assert cause.line.startswith("ValueError: To serve at least one request")


def test_an_unknown_error_is_told_by_the_first_traceback() -> None:
    log = f"{PREFIX}Traceback (most recent call last):\n{PREFIX}some.module.WeirdError: no luck\n" + LAUNCHER
    cause = diagnosis.find_cause(log, pod="dc1", model="m/m")
    assert cause is not None
    assert cause.words == "some.module.WeirdError: no luck"


def test_a_log_without_an_error_has_no_cause() -> None:
    assert diagnosis.find_cause("INFO all is well\n", pod="dc1", model="m/m") is None


def test_a_gated_model_leads_to_its_own_page() -> None:
    said = "Error: Access denied. Model 'meta/x' requires approval.\nHint: set HF_DEBUG=1"
    cause = diagnosis.find_cause(said, pod="dc1", model="meta/x")
    assert cause is not None
    assert cause.hint is not None
    assert "https://huggingface.co/meta/x" in cause.hint


def test_how_a_silent_death_is_told() -> None:
    assert diagnosis.describe_end(None, 9) == "vLLM was killed by signal 9 (out of host memory?)"
    assert diagnosis.describe_end(3, None) == "vLLM ended with exit code 3"


def test_the_end_of_a_log_is_shown_without_progress_bars_rewritten() -> None:
    assert diagnosis.last_lines("a\r50 %\r100 %\n\nb\n", 2) == "100 %\nb"

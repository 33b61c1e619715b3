"""How far a start is, out of vLLM's log."""

from pi_cli.models import phases


def test_the_last_phase_of_a_piece_counts() -> None:
    text = "INFO Resolved architecture: X\nINFO Initializing a V1 LLM engine (v0.32.0) with config:\n"
    assert phases.latest(text) == "starting the engine"


def test_shards_are_counted() -> None:
    assert (
        phases.latest("\rLoading safetensors checkpoint shards:  50% Completed | 2/4 [00:01") == "loading weights 2/4"
    )


def test_ordinary_lines_are_no_phase() -> None:
    assert phases.latest("INFO 127.0.0.1 GET /health 200\n") is None

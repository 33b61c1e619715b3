"""The phase of a start, from vLLM's log."""

import os
from pathlib import Path

from agent.phases import Phases, last_phase, phase_of
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import PROPERTY

STARTING = b"INFO Resolved architecture: X\nINFO Initializing a V1 LLM engine (v0.32.0) with config:\n"
BAR = b"\rLoading safetensors checkpoint shards:  50% Completed | 2/4 [00:01"


def test_the_last_phase_of_a_chunk_counts() -> None:
    assert Phases().feed(STARTING) == "starting the engine"


def test_shards_are_counted_while_the_line_is_being_drawn() -> None:
    phases = Phases()
    assert phases.feed(BAR) == "loading weights 2/4"
    assert phases.now == "loading weights"


def test_a_line_that_arrives_in_parts_is_read_once_it_is_complete() -> None:
    phases = Phases()
    assert phases.feed(b"INFO Model load") is None
    assert phases.feed(b"ing took 14.2 GiB\n") == "profiling memory"
    assert phases.feed(b"INFO something else\n") is None


def test_progress_bars_of_later_phases_are_not_taken_for_weights() -> None:
    phases = Phases()
    phases.feed(b"Capturing CUDA graphs\n")
    assert phases.feed(BAR) is None


def test_ordinary_lines_do_not_change_the_phase() -> None:
    assert Phases().feed(b"INFO 127.0.0.1 GET /health 200\n") is None


def test_the_phase_of_a_whole_log(tmp_path: Path) -> None:
    log = tmp_path / "q.log"
    assert phase_of(str(log)) is None
    log.write_bytes(STARTING + b"Starting to load model\n" + BAR)
    assert phase_of(str(log)) == "loading weights 2/4"


def test_a_log_that_is_a_pipe_has_no_phase(tmp_path: Path) -> None:
    """Reading it would never end."""
    os.mkfifo(tmp_path / "q.log")
    assert phase_of(str(tmp_path / "q.log")) is None


MARKS = [
    b"Resolved architecture: X", b"Initializing a V1 LLM engine", b"Initializing a Vision tower", b"Model loading took",
    b"init engine (profile", b"init engine failed", b"Loading model from scratch", b"Starting to load model", b"INFO",
    b"Capturing CUDA graphs", b"Dynamo bytecode transform", b"GPU KV cache size", b"\n",
]  # fmt: skip


@PROPERTY
@given(st.lists(st.sampled_from(MARKS), max_size=12))
def test_a_whole_log_is_in_the_phase_that_its_lines_led_to(marks: list[bytes]) -> None:
    text = b" ".join(marks) + b"\n"
    phases = Phases()
    phases.feed(text)
    assert last_phase(text)[0] == phases.now

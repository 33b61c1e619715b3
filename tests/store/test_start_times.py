"""How long starts took, kept for who starts the same again."""

import os
from pathlib import Path

import pytest

from pi_cli.store import start_times
from pi_cli.store.start_times import StartTimes


def test_the_last_start_on_the_same_gpus_counts() -> None:
    start_times.add(StartTimes("Qwen/Q", "H100", 1, 90.0, {"loading weights": 60.0}))
    start_times.add(StartTimes("qwen/q", "H100", 1, 80.0, {"loading weights": 50.0}))
    start_times.add(StartTimes("Qwen/Q", "H100", 2, 50.0))
    found = start_times.last("Qwen/Q", "H100", 1)
    assert found
    assert (found.seconds, found.phases) == (80.0, {"loading weights": 50.0})
    assert start_times.last("Qwen/Q", "L4", 1) is None


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"model": 1}]', '[{"model": "m", "phases": 3}]', "\x00"])
def test_a_file_of_nonsense_holds_nothing_and_is_replaced(content: str) -> None:
    path = Path(os.environ["PI_CONFIG_DIR"], "starts.json")
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert start_times.last("m", "H100", 1) is None
    start_times.add(StartTimes("m", "H100", 1, 3.0))
    assert start_times.last("m", "H100", 1)

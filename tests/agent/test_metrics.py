"""The few numbers that the agent reads out of a vLLM's metrics."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from agent import metrics
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import PROPERTY, texts_of

REMOTE = Path(metrics.__file__).parents[1]
# As vLLM 0.32 prints them, with two data-parallel engines; the others are not wanted.
TWO_ENGINES = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}b"} 3.0
vllm:num_requests_running{engine="1",model_name="a}b"} 4.0
vllm:num_requests_waiting{engine="0",model_name="a\\"}b"} 0.0
vllm:num_requests_waiting{engine="1",model_name="a\\"}b"} 12.0
vllm:num_requests_waiting_by_reason{engine="1",reason="capacity"} 12.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.25
vllm:prompt_tokens_total{engine="0"} 1.5e+06
vllm:prompt_tokens_total{engine="1"} 500000.0
vllm:prompt_tokens_created{engine="0"} 1.7e+09
vllm:generation_tokens_total{engine="0"} 100.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001"} 7.0
vllm:time_to_first_token_seconds_count{engine="0"} 8.0
vllm:time_to_first_token_seconds_sum{engine="0"} 2.5
"""
READ_IN_LITTLE = """
import resource, sys
from agent import metrics
text = sys.stdin.buffer.read()
resource.setrlimit(resource.RLIMIT_DATA, (len(text) + (64 << 20),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
print(metrics.read(text, 0)["running"])
"""
OLD = b"vllm:gpu_cache_usage_perc 0.75\nvllm:num_requests_running 1\nvllm:num_requests_waiting 2 1700000000000\n"


def test_engines_are_summed_and_the_use_of_their_caches_is_averaged() -> None:
    assert metrics.read(TWO_ENGINES, 5.0) == {
        "at": 5.0,
        "running": 7.0,
        "waiting": 12.0,
        "prompt_tokens": 2_000_000.0,
        "generation_tokens": 100.0,
        "kv_cache": 0.375,
        "first_token_seconds": 2.5,
        "first_tokens": 8.0,
    }


def test_older_versions_have_another_name_for_the_kv_cache_and_some_have_both() -> None:
    read = metrics.read(OLD, 0)
    assert read
    assert (read["kv_cache"], read["prompt_tokens"], metrics.requests(read)) == (0.75, None, [1, 2])
    both = metrics.read(OLD + b"vllm:kv_cache_usage_perc 0.5\n", 0)
    assert both
    assert both["kv_cache"] == 0.5


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf", "-1", "1e400", "1e300", "x", "", "0x10"])
def test_what_is_not_a_count_is_left_out(number: str) -> None:
    read = metrics.read(f"vllm:num_requests_running {number}\nvllm:num_requests_waiting 1\n".encode(), 0)
    assert read
    assert (read["running"], read["waiting"], metrics.requests(read)) == (None, 1.0, None)


def test_a_line_that_was_cut_off_does_not_count() -> None:
    assert metrics.read(b"vllm:prompt_tokens_total 1234", 0) is None
    assert metrics.read(b"<html>not a vLLM</html>\n", 0) is None
    assert metrics.requests(None) is None


PIECES = (
    "vllm:num_requests_running", "vllm:kv_cache_usage_perc", "vllm:prompt_tokens_total", "{", "}", '"', "\\", "=", " ",
    "\n", "1", "1e308", "-2", "NaN", "inf", '{model_name="q"} 3\n',
)  # fmt: skip


@PROPERTY
@given(texts_of(*PIECES))
def test_any_text_gives_finite_numbers_or_none(text: str) -> None:
    read = metrics.read(text.encode(), 1.0)
    for number in (read or {}).values():
        assert number is None or (isinstance(number, float) and 0 <= number <= metrics.LARGEST)


@PROPERTY
@given(st.lists(st.floats(min_value=0), min_size=1, max_size=20))
def test_a_sum_never_leaves_the_range(numbers: list[float]) -> None:
    lines = "".join(f'vllm:prompt_tokens_total{{engine="{i}"}} {number}\n' for i, number in enumerate(numbers))
    read = metrics.read(lines.encode(), 0)
    assert read is None or (read["prompt_tokens"] is not None and math.isfinite(read["prompt_tokens"]))


@pytest.mark.parametrize(
    "line", [b"vllm:num_requests_running{" + b'a="', b'vllm:num_requests_running{a="\\'], ids=["a", "b"]
)
def test_megabytes_of_unfinished_labels_take_little_memory_and_time(line: bytes) -> None:
    text = (line + b"x" * 1000) * 4000 + b"\nvllm:num_requests_running 2\n"
    ended = subprocess.run(
        [sys.executable, "-c", READ_IN_LITTLE], cwd=REMOTE, input=text, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, b"2.0\n"), ended.stderr

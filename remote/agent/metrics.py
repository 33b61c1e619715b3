"""Read what a vLLM reports about its work on /metrics: a few numbers out of thousands of lines."""

import contextlib
import io
import re
from typing import TYPE_CHECKING, Dict, List, Optional

if TYPE_CHECKING:
    from agent import protocol

# Names as of vLLM 0.32. `kv_cache_usage_perc` was `gpu_cache_usage_perc` before 0.9; some later versions report both.
NAMES = {
    b"num_requests_running": "running",
    b"num_requests_waiting": "waiting",
    b"prompt_tokens_total": "prompt_tokens",
    b"generation_tokens_total": "generation_tokens",
    b"kv_cache_usage_perc": "kv_cache",
    b"gpu_cache_usage_perc": "old_kv_cache",
    b"request_success_total": "finished",
    b"time_to_first_token_seconds_sum": "first_token_seconds",
    b"time_to_first_token_seconds_count": "first_tokens",
}
# A line without its end was cut off, and so may be its number. Values of labels may contain braces.
LINE = re.compile(rb'vllm:(%s)(?:\{(?:[^"}]|"(?:[^"\\]|\\.)*")*\})? +([^ \r\n]+)[^\n]*\n' % b"|".join(NAMES))
LONGEST_LINE = 1 << 14  # bytes; vLLM's are below 1 kB. The pattern takes 150 bytes of memory for each byte of a line
LARGEST = float(1 << 53)  # beyond that, a counter no longer counts


def values_in(text: bytes) -> Dict[str, List[float]]:
    """Return the values of all engines, by name."""
    values: Dict[str, List[float]] = {}
    for line in io.BytesIO(text):
        match = LINE.match(line) if len(line) <= LONGEST_LINE else None
        if match is None:
            continue
        name, number = match.groups()
        with contextlib.suppress(ValueError):
            value = float(number)
            if 0 <= value <= LARGEST:  # neither NaN nor infinite
                values.setdefault(NAMES[name], []).append(value)
    return values


def sums(text: bytes) -> Dict[str, float]:
    """Return the sums over all engines."""
    return {name: min(sum(numbers), LARGEST) for name, numbers in values_in(text).items()}


def read(text: bytes, at: float) -> "Optional[protocol.Metrics]":
    """Return the sums over all engines, and the mean for the use of their KV caches; None if there are none."""
    values = values_in(text)
    sums = {name: min(sum(numbers), LARGEST) for name, numbers in values.items()}
    caches = values.get("kv_cache") or values.get("old_kv_cache")
    if not sums:
        return None
    return {
        "at": at,
        "running": sums.get("running"),
        "waiting": sums.get("waiting"),
        "prompt_tokens": sums.get("prompt_tokens"),
        "generation_tokens": sums.get("generation_tokens"),
        "kv_cache": min(sum(caches) / len(caches), 1.0) if caches else None,
        "first_token_seconds": sums.get("first_token_seconds"),
        "first_tokens": sums.get("first_tokens"),
    }


def requests(metrics: "Optional[protocol.Metrics]") -> Optional[List[int]]:
    """Return [running, waiting] requests; None if they are not reported."""
    if metrics is None or metrics["running"] is None or metrics["waiting"] is None:
        return None
    return [int(metrics["running"]), int(metrics["waiting"])]

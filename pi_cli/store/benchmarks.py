"""What `pi bench` has measured: stored in `benchmarks.json`, and compared with the next result of the same model."""

import time
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from pi_cli.lazy_dataclasses import dataclass
from pi_cli.store import paths, rows

LATEST = 4_102_444_800.0  # the year 2100; a number by hand may be no date at all

Percentiles = tuple[float | None, float | None, float | None]
"""The 50th, 90th and 99th percentile of a time in milliseconds; None if nothing was measured."""


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured with `streams` requests at a time. Rates are per second; `total_rate` counts the input too.

    `ttft` is the time to the first token, `tpot` the mean time of each further token of a request, `itl` the time
    between two tokens.
    """

    streams: int
    prompts: int
    completed: int
    failed: int
    seconds: float
    output_rate: float
    total_rate: float
    request_rate: float
    ttft: Percentiles
    tpot: Percentiles
    itl: Percentiles


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark of a model on some GPUs (`2x H100`), at a time in seconds since 1970."""

    model: str
    name: str
    pod: str
    gpus: str
    vllm: str | None
    arguments: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    at: float
    levels: tuple[Level, ...]

    def is_about_the_same(self, other: "Benchmark") -> bool:
        """Each result is kept; the oldest are dropped (`rows.MAX_ROWS`)."""
        return (self.model, self.pod, self.at) == (other.model, other.pod, other.at)

    def level(self, streams: int) -> Level | None:
        return next((level for level in self.levels if level.streams == streams), None)


def now() -> float:
    """Return the time for a new result, which people read: nothing is decided by it."""
    return time.time()


def last(model: str, input_tokens: int, output_tokens: int) -> Benchmark | None:
    """Return the last result of a model, in any spelling, with requests of this size; others cannot be compared."""
    wanted = (model.lower(), input_tokens, output_tokens)
    stored = rows.read(_path(), _benchmark)
    same = [each for each in stored if (each.model.lower(), each.input_tokens, each.output_tokens) == wanted]
    return same[-1] if same else None


def add(new: Benchmark) -> None:
    """Store a result."""
    rows.add(_path(), new, _benchmark)


def _path() -> Path:
    return paths.config_dir() / "benchmarks.json"


def _benchmark(row: Mapping[str, Any]) -> Benchmark | None:
    """Parse a row; None if it is from a newer pi, or invalid after an edit by hand."""
    try:
        vllm = row["vllm"]
        return Benchmark(
            _text(row["model"]),
            _text(row["name"]),
            _text(row["pod"]),
            _text(row["gpus"]),
            None if vllm is None else _text(vllm),
            tuple(map(_text, row["arguments"])),
            _whole(row["input_tokens"]),
            _whole(row["output_tokens"]),
            min(_number(row["at"]), LATEST),
            tuple(map(_level, row["levels"])),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _level(row: Mapping[str, Any]) -> Level:
    counts = [_whole(row[name]) for name in ("streams", "prompts", "completed", "failed")]
    rates = [_number(row[name]) for name in ("seconds", "output_rate", "total_rate", "request_rate")]
    times = [_percentiles(row[name]) for name in ("ttft", "tpot", "itl")]
    return Level(*counts, *rates, *times)  # type: ignore[arg-type]


def _percentiles(values: Any) -> Percentiles:
    p50, p90, p99 = (None if value is None else _number(value) for value in values)
    return p50, p90, p99


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not isfinite(value) or value < 0:
        raise TypeError
    return float(value)

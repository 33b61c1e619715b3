"""The results of `pi bench`: a line for each number of streams, a small plot, and the comparison with the last ones."""

import sys
from collections.abc import Sequence

from pi_cli.models import bench
from pi_cli.store.benchmarks import Benchmark, Level, Percentiles
from pi_cli.view import tables, terminal

WIDTH = 40  # columns of the longest bar
EIGHTHS, ASCII_EIGHTHS = " ▏▎▍▌▋▊▉█", "        #"
HEAD = ("STREAMS", "TOKENS/S", "CHANGE", "TTFT p50", "p99", "ITL p50", "p99", "REQ/S")
WIDTHS = (7, 9, 7, 9, 8, 8, 8, 7)


def show(level: Level, before: Benchmark | None, *, is_first: bool) -> None:
    """Print the line of a level, as soon as it is measured, below the names of the columns; times are in ms."""
    if is_first:
        terminal.say((_row(HEAD), "bold"))
    terminal.say(line(level, before))
    if level.failed:
        terminal.note(f"{level.failed} of {level.prompts} requests failed with {level.streams} streams")


def line(level: Level, before: Benchmark | None) -> str:
    """Return the line of a level."""
    change = bench.change(level, before)
    cells = [str(level.streams), _rate(level.output_rate), "-" if change is None else f"{round(100 * change):+d}%"]
    cells += [_milliseconds(time) for times in (level.ttft, level.itl) for time in times[::2]]
    return _row([*cells, _rate(level.request_rate)])


def show_end(new: Benchmark, before: Benchmark | None) -> None:
    """Print the plot, and how the model ran when it was measured before."""
    terminal.say("")
    for line in plot(new.levels, is_ascii=tables.wants_ascii(sys.stdout.encoding or "ascii")):
        terminal.say(line)
    if before is None:
        return
    different = bench.differences(new, before)
    where = f"`{before.name}` on `{before.pod}`"
    how = "; ".join(different) if different else "with the same vLLM, GPUs and arguments"
    terminal.note(f"compared with {where}, {_date(before.at)}: {how}")


def plot(levels: Sequence[Level], *, is_ascii: bool) -> list[str]:
    """Return a bar for the tokens per second of each level; the highest is the longest."""
    most = max((level.output_rate for level in levels), default=0.0)
    blocks = ASCII_EIGHTHS if is_ascii else EIGHTHS
    lines = []
    for level in levels:
        whole, eighths = divmod(round(8 * WIDTH * level.output_rate / most) if most else 0, 8)
        bar = (blocks[-1] * whole + blocks[eighths]).strip()
        lines.append(f"{level.streams:>{WIDTHS[0]}} {bar} {_rate(level.output_rate)} tokens/s")
    return lines


def as_json(new: Benchmark, before: Benchmark | None) -> dict[str, object]:
    return {
        "gpu_types": new.gpus,
        "vllm": new.vllm,
        "arguments": list(new.arguments),
        "input_tokens": new.input_tokens,
        "output_tokens": new.output_tokens,
        "at": new.at,
        "levels": [_level_as_json(level, before) for level in new.levels],
        "previous_at": before.at if before else None,
        "differences": bench.differences(new, before) if before else [],
    }


def _level_as_json(level: Level, before: Benchmark | None) -> dict[str, object]:
    change = bench.change(level, before)
    return {
        "streams": level.streams,
        "requests": level.prompts,
        "completed": level.completed,
        "failed": level.failed,
        "seconds": level.seconds,
        "output_tokens_per_second": level.output_rate,
        "total_tokens_per_second": level.total_rate,
        "requests_per_second": level.request_rate,
        "ttft_ms": _percentiles(level.ttft),
        "tpot_ms": _percentiles(level.tpot),
        "itl_ms": _percentiles(level.itl),
        "change_percent": None if change is None else 100 * change,
    }


def _percentiles(values: Percentiles) -> dict[str, float | None]:
    return dict(zip(("p50", "p90", "p99"), values, strict=True))


def _row(cells: Sequence[str]) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _date(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")

"""What commands cost, measured in turns, and the figures that come of it.

A machine is never quiet, and what disturbs one round disturbs both who take part in it: so ours and the baseline run
one after the other, round by round, and the figure is the median of the rounds' ratios.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SETTLED_WITHIN = 10.0  # seconds
LOOK = 0.1  # seconds
IDLE_SHARE = 0.85


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by the clock, seconds of processor time, and bytes of memory at most, of a command and its children.

    `peak` is that of the largest single process.
    """

    wall: float
    cpu: float = 0.0
    peak: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of the table: `ratio` of ours to the baseline, with the range in which eight of ten rounds lie.

    Where the baseline is "-", it is the value itself.
    """

    number: str
    what: str
    baseline: str
    ours: str
    theirs: str
    ratio: float
    spread: tuple[float, float]
    goal: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        return self.ratio >= self.goal if self.at_least else self.ratio <= self.goal


def run(command: Sequence[str], environ: Mapping[str, str], *, shown: bool = False) -> Cost:
    """Run a command to its end, and end everything if it fails."""
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=None if shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.decode(errors='replace')}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def in_turns(rounds: int, *works: Callable[[], Cost]) -> list[list[Cost]]:
    """Do works one after the other, again and again; return the costs of each. The first round only warms up."""
    costs: list[list[Cost]] = [[] for _ in works]
    for number in range(rounds + (rounds > 1)):
        for work, kept in zip(works, costs, strict=True):
            cost = work()
            if number or rounds == 1:
                kept.append(cost)
    return costs


def settle() -> None:
    """Wait for 10 s at most until the processors have nothing to do: what a work leaves behind is not the next's."""
    deadline = time.monotonic() + SETTLED_WITHIN
    while time.monotonic() < deadline:
        before, total_before = processor_times()
        time.sleep(LOOK)
        idle, total = processor_times()
        if idle - before >= IDLE_SHARE * (total - total_before):
            return


def processor_times() -> tuple[int, int]:
    """Return the ticks for which all processors were idle, and the ticks of all of them."""
    ticks = [*map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])]
    return ticks[3] + ticks[4], sum(ticks)


def figure(
    number: str,
    what: str,
    baseline: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    goal: float,
    *,
    unit: str = "ms",
    at_least: bool = False,
) -> Figure:
    """Make a row of what was measured; with `unit` "ms" the values are seconds."""
    ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
    tenth = len(ratios) // 10
    return Figure(
        number,
        what,
        baseline,
        told(statistics.median(ours), unit),
        told(statistics.median(theirs), unit),
        statistics.median(ratios),
        (ratios[tenth], ratios[-1 - tenth]),
        goal,
        at_least,
    )


def absolute(number: str, what: str, values: Sequence[float], goal: float, unit: str, *, at_least: bool) -> Figure:
    """Make a row of values that are held to no baseline."""
    median, ends = statistics.median(values), (min(values), max(values))
    return Figure(number, what, "-", told(median, unit), "-", median, ends, goal, at_least)


def told(value: float, unit: str) -> str:
    if unit == "ms":
        value *= 1000
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out as a Markdown table."""
    head = [
        "| # | figure | baseline | ours | baseline's | ratio (8 of 10) | goal | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {each.number} | {each.what} | {each.baseline} | {each.ours} | {each.theirs} | {ratio(each)} "
        f"| {'≥' if each.at_least else '≤'} {each.goal:,g} | {'reached' if each.is_reached else 'missed'} |"
        for each in figures
    ]
    return "\n".join([*head, *rows])


def ratio(figure: Figure) -> str:
    low, high = figure.spread
    if figure.baseline == "-":
        return f"- ({low:,.3g} to {high:,.3g})" if high < 1000 else f"- ({low:,.0f} to {high:,.0f})"
    return f"{figure.ratio:.2f} ({low:.2f}-{high:.2f})"

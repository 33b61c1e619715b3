"""Progress of work on pods: one live row per pod on a terminal, plain lines elsewhere. All of it on stderr."""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.events import Ended, Event, Note, Output, Phase, Progress, Report
from pi_cli.safe import safe
from pi_cli.view import questions, terminal

if TYPE_CHECKING:
    from rich.table import Table

PERCENT_STEP = 25  # percent of a download between two plain lines
LINE_INTERVAL = 60.0  # seconds after which another line is printed in any case
DOWNLOADING = "downloading"
RATE_WINDOW = 10.0  # seconds over which the rate of a download is averaged


@contextmanager
def following(pods: Iterable[str]) -> Iterator[Report]:
    """Show the progress of pods while the block runs."""
    rows = {pod: _PodRow(pod) for pod in pods}
    if sys.stderr.isatty():
        with _live(rows) as report:
            yield report
    else:
        yield lambda event: _print_plainly(rows[event.pod], event, is_alone=len(rows) == 1)


@dataclass(slots=True)
class DownloadProgress:
    """The state of a download, and its rate during the last seconds."""

    done: int = 0
    total: int | None = None
    by: str = ""
    samples: deque[tuple[float, int]] = field(default_factory=deque)
    last_line: tuple[float, int] | None = None  # its time, and its percent rounded down to a step

    def update(self, done: int, total: int | None, by: str, now: float) -> None:
        self.done, self.total, self.by = done, total, by
        if self.samples and done < self.samples[-1][1]:  # the download was restarted
            self.samples.clear()
        self.samples.append((now, done))
        while len(self.samples) > 1 and self.samples[1][0] <= now - RATE_WINDOW:
            self.samples.popleft()

    def rate(self) -> float | None:
        """Return bytes per second; None during the first second."""
        if not self.samples or self.samples[-1][0] - self.samples[0][0] < 1:
            return None
        (began, before), (now, done) = self.samples[0], self.samples[-1]
        return (done - before) / (now - began)

    def is_line_due(self, now: float) -> bool:
        """Return whether to print a plain line: the first time, at each quarter, and each minute."""
        percent = 100 * self.done // self.total if self.total else 0
        if self.last_line:
            printed_at, printed_percent = self.last_line
            if now < printed_at + LINE_INTERVAL and percent < printed_percent + PERCENT_STEP:
                return False
        self.last_line = now, percent // PERCENT_STEP * PERCENT_STEP
        return True

    def text(self) -> str:
        """Format the state as `12.3 GB of 140.0 GB (8 %), 85.2 MB/s, 24m58s left`."""
        parts = [units.size(self.done)]
        if self.total:
            done = min(self.done, self.total)
            parts = [f"{units.size(done)} of {units.size(self.total)} ({100 * done // self.total} %)"]
        rate = self.rate()
        if rate is not None and self.done != self.total:
            parts.append(f"{units.size(rate)}/s")
            if rate and self.total and self.done < self.total:
                parts.append(f"{units.age((self.total - self.done) / rate)} left")
        return ", ".join(parts) + (f"; {self.by} is downloading it" if self.by else "")


@dataclass(slots=True)
class _PodRow:
    """The state of one pod in the view."""

    pod: str
    phase: str = "connecting"
    began: float = field(default_factory=time.monotonic)
    download: DownloadProgress = field(default_factory=DownloadProgress)
    last_output: str = ""
    printed_phase: str = ""
    ended: float | None = None
    failure: str | None = None

    def update(self, event: Event) -> None:
        match event:
            case Phase():
                self.phase = _phase(event)
            case Progress(done=done, total=total, by=by):
                self.phase = DOWNLOADING
                self.download.update(done, total, by, time.monotonic())
            case Output(text=text):
                lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
                self.last_output = lines[-1] if lines else self.last_output
            case Ended(failure=failure):
                self.ended, self.failure = time.monotonic(), failure
                self.phase = "failed" if failure else "done"
            case Note():
                pass

    def detail(self) -> str:
        if self.ended:
            return safe(self.failure or "", colour=False)
        if self.phase == DOWNLOADING:
            return self.download.text()
        return safe(self.last_output, colour=False)

    def is_line_due(self, phase: Phase) -> bool:
        """Return whether to print a line for a phase: not if only its count (`3/8`) has changed."""
        bare = _without_count(phase.text)
        is_new, self.printed_phase = bare != self.printed_phase, bare
        return is_new


@contextmanager
def _live(rows: dict[str, _PodRow]) -> Iterator[Report]:
    from pi_cli.view import live

    console = terminal.err()

    def render(_: int | None) -> "Table":
        return _render(rows.values(), console.width)

    with questions.drawing(lambda: live.view(console, render, refresh_per_second=8)):

        def report(event: Event) -> None:
            row = rows[event.pod]
            row.update(event)
            if isinstance(event, Phase) and row.is_line_due(event):
                line = f"{row.pod}  {_clock(row)}  {_without_count(_phase(event))}"
                console.print(line, style="dim", soft_wrap=True)
            if isinstance(event, Ended) and event.failure and len(rows) > 1:
                console.print(f"{row.pod}  {_clock(row)}  failed: {row.detail()}", style="red", soft_wrap=True)
            if isinstance(event, Note):
                terminal.note(f"{event.pod}: {event.text}", console)

        yield report


def _render(rows: Iterable[_PodRow], width: int) -> "Table":
    """Draw a row per pod. The last line of the log gets the rest of the width, less the `^C` that terminals echo."""
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.width = max(width - len("^C") - 1, 1)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        name: Spinner | Text = Spinner("dots", Text(row.pod, style="bold"))
        if row.ended:
            mark = ("✗ ", "red") if row.failure else ("✓ ", "green")
            name = Text.assemble(mark, (row.pod, "bold"))
        table.add_row(name, Text(_clock(row)), Text(row.phase), Text(row.detail(), style="dim"))
    return table


def _print_plainly(row: _PodRow, event: Event, *, is_alone: bool) -> None:
    """Print a line for an event that matters to the reader of a log file."""
    row.update(event)
    say: Callable[[str], None] = lambda text: terminal.err().print(f"{row.pod}: {text}", soft_wrap=True)  # noqa: E731
    match event:
        case Phase() if row.is_line_due(event):
            say(_without_count(_phase(event)))
        case Progress() if row.download.is_line_due(time.monotonic()):
            say(f"{DOWNLOADING} {row.download.text()}")
        case Note(text=text):
            say(text)
        case Ended(failure=failure) if failure and not is_alone:
            say(f"failed: {row.detail()}")
        case _:
            pass


def _without_count(phase: str) -> str:
    return re.sub(r" \d+/\d+(?= \(|$)", "", phase)


def _phase(phase: Phase) -> str:
    if not phase.expected or phase.expected < 1:
        return phase.text
    return f"{phase.text} (last time {units.age(phase.expected)})"


def _clock(row: _PodRow) -> str:
    minutes, seconds = divmod(int((row.ended or time.monotonic()) - row.began), 60)
    return f"{minutes}:{seconds:02}"

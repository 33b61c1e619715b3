"""Progress of work on pods: one live row per pod on a terminal, plain lines elsewhere. All of it on stderr.

Of the rows nothing stays: the command prints its result once they are gone, and `commands.main` the errors.
"""

import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.events import Announced, Counted, Ended, Event, Note, Output, Phase, Progress, Report, Step
from pi_cli.lazy_dataclasses import dataclass, field
from pi_cli.safe import safe
from pi_cli.view import late, lines, terminal

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

    from pi_cli.view import checklist

PERCENT_STEP = 25  # percent of a download between two plain lines
LINE_INTERVAL = 60.0  # seconds after which another line is printed in any case
DOWNLOADING = "downloading"
RATE_WINDOW = 10.0  # seconds over which the rate of a download is averaged
MIN_BAR, MAX_BAR = 8, 40  # columns
GAP = 2  # columns between two cells of a row
SPINNER = 2  # columns, with its gap


@contextmanager
def following(pods: Iterable[str], *, quiet: bool = False, is_late: bool = False) -> Iterator[Report]:
    """Show the progress of pods while the block runs; with `quiet` show nothing.

    `is_late`: only once it has taken some time, for work that is mostly over before a view could be drawn.
    """
    rows = {pod: _PodRow(pod) for pod in pods}
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty() and lines.is_interactive(sys.stderr):  # not on a dumb terminal
        with _live(rows, is_late=is_late) as report:
            yield report
    else:
        yield lambda event: _print_plainly(rows[event.pod], event, is_alone=len(rows) == 1)


@dataclass(slots=True)
class DownloadProgress:
    """The state of a download, and its rate during the last seconds."""

    done: int = 0
    total: int | None = None
    by: str = ""
    is_compiling: bool = False
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
        return ", ".join([*parts, *self._rate_text(), *self._time_left()]) + self._by_text()

    def texts(self) -> list[str]:
        """Return texts for a row, the longest first: without the rate, then without the time left."""
        if not self.total:
            return [self.text()]
        done = min(self.done, self.total)
        size = f"{units.size(done)} of {units.size(self.total)} ({100 * done // self.total} %)"
        left, by = self._time_left(), self._by_text()
        return [self.text(), ", ".join([size, *left]) + by, ", ".join([f"{100 * done // self.total} %", *left])]

    def beside_bar(self) -> str:
        """Return a text without the percent, which the bar beside it shows."""
        assert self.total
        size = units.part(min(self.done, self.total), self.total)
        return ", ".join([size, *self._rate_text(), *self._time_left()]) + self._by_text()

    def _rate_text(self) -> list[str]:
        rate = self.rate()
        return [f"{units.size(rate)}/s"] if rate is not None and self.done != self.total else []

    def _time_left(self) -> list[str]:
        rate = self.rate()
        if not rate or not self.total or self.done >= self.total:
            return []
        return [f"{units.age((self.total - self.done) / rate)} left"]

    def _by_text(self) -> str:
        return f"; {self.by} is downloading it" if self.by else ", compiling" if self.is_compiling else ""


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
    setup: "checklist.Setup | None" = None  # of a pod that is set up too

    def update(self, event: Event) -> None:
        match event:
            case Phase():
                self.phase, self.ended, self.failure = _phase(event), None, None
            case Step() | Announced() | Counted():
                from pi_cli.view import checklist  # takes as long to load as the table of `pi list`

                self.setup = self.setup or checklist.Setup(self.pod)
                self.setup.update(event)
                step = self.setup.current
                self.phase, self.last_output = step.title, step.count or step.detail
            case Progress(done=done, total=total, by=by, is_compiling=is_compiling):
                self.phase = DOWNLOADING
                self.download.is_compiling = is_compiling
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
def _live(rows: dict[str, _PodRow], *, is_late: bool) -> Iterator[Report]:
    console = cache(terminal.err)

    def render(height: int | None) -> "RenderableType":
        return _render(rows.values(), console().width, height)

    def view() -> "Live":
        from pi_cli.view import live

        return live.view(console(), render, refresh_per_second=8)

    from pi_cli.view import questions

    with questions.drawing(lambda: late.LateView(view) if is_late else view()):

        def report(event: Event) -> None:
            rows[event.pod].update(event)
            if isinstance(event, Note) and not event.is_reason:
                terminal.note(f"{event.pod}: {event.text}", console())
            elif isinstance(event, Note) and len(rows) == 1:  # for several pods, `--dry-run` shows them
                terminal.aside(safe(event.text, colour=False), console=console())

        yield report


def _render(rows: Iterable[_PodRow], width: int, height: int | None = None) -> "RenderableType":
    """Draw a row per pod; on a low screen first those that have not ended, and how many others there are.

    The last line of the log gets the rest of the width, less the `^C` that terminals echo.
    """
    from rich.console import Group
    from rich.text import Text

    rows = list(rows)
    if height is None or len(rows) <= height:
        return _table(rows, width)
    first = sorted(rows, key=lambda row: row.ended is not None)[: max(height - 1, 0)]
    more = Text(f"{len(rows) - len(first)} more pods", style="dim")
    return Group(_table(first, width), more) if first else more


def _table(rows: Sequence[_PodRow], width: int) -> "Table":
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, GAP, 0, 0), expand=True)
    table.width = max(width - len("^C") - 1, 1)
    before = [max(map(len, texts), default=0) + GAP for texts in zip(*map(_fixed, rows), strict=True)]
    left = table.width - SPINNER - sum(before)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        name: Spinner | Text = Spinner("dots", Text(row.pod, style="bold"))
        if row.ended:
            mark = ("✗ ", "red") if row.failure else ("✓ ", "green")
            name = Text.assemble(mark, (row.pod, "bold"))
        detail = Text(row.detail(), style="dim")
        is_loading = row.phase == DOWNLOADING and not row.ended
        table.add_row(name, Text(_clock(row)), Text(row.phase), _download(row.download, left) if is_loading else detail)
    return table


def _fixed(row: _PodRow) -> tuple[str, str, str]:
    return row.pod, _clock(row), row.phase


def _download(download: DownloadProgress, width: int) -> "RenderableType":
    """Draw a download as a bar with its text; in fewer columns without the bar, then without the rate."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if download.total:
        text = download.beside_bar()
        length = min(width - len(text) - GAP, MAX_BAR)
        if length >= MIN_BAR:
            cells = Table.grid(padding=(0, GAP, 0, 0))
            bar = ProgressBar(download.total, min(download.done, download.total), width=length)
            cells.add_row(bar, Text(text, style="dim", no_wrap=True))
            return cells
    texts = download.texts()
    return Text(next((text for text in texts if len(text) <= width), texts[-1]), style="dim")


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
        case Step(name=name, state=state) if row.setup:
            from pi_cli.view import checklist

            if state in checklist.END_STATES:
                say(checklist.end_line(row.setup.items[name]))
        case Ended(failure=failure) if failure and not is_alone:
            say("failed")  # the error says why, in the end
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

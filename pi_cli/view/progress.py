"""Work on pods while it runs: one live row per pod on a terminal, plain lines elsewhere. All of it on stderr."""

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

STEP = 25  # percent of a download between two plain lines
QUIET = 60.0  # seconds after which there is one anyway
DOWNLOADING = "downloading"
SMOOTHING = 10.0  # seconds over which the rate of a download is taken


@contextmanager
def following(pods: Iterable[str]) -> Iterator[Report]:
    """Show what pods do while the block runs."""
    rows = {pod: _Row(pod) for pod in pods}
    if sys.stderr.isatty():
        with _live(rows) as report:
            yield report
    else:
        yield lambda event: _print_plainly(rows[event.pod], event, is_alone=len(rows) == 1)


@dataclass(slots=True)
class Download:
    """How far a download is, and how fast it was during the last seconds."""

    done: int = 0
    total: int | None = None
    by: str = ""
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    said: tuple[float, int] | None = None

    def see(self, done: int, total: int | None, by: str, now: float) -> None:
        self.done, self.total, self.by = done, total, by
        if self.seen and done < self.seen[-1][1]:  # it was begun anew
            self.seen.clear()
        self.seen.append((now, done))
        while len(self.seen) > 1 and self.seen[1][0] <= now - SMOOTHING:
            self.seen.popleft()

    def rate(self) -> float | None:
        """Return bytes per second; None before there was a second to tell them from."""
        if not self.seen or self.seen[-1][0] - self.seen[0][0] < 1:
            return None
        (began, before), (now, done) = self.seen[0], self.seen[-1]
        return (done - before) / (now - began)

    def is_news(self, now: float) -> bool:
        """Tell whether a line of its own is due: at first, at each quarter, and each minute."""
        percent = 100 * self.done // self.total if self.total else 0
        if self.said and now < self.said[0] + QUIET and percent < self.said[1] + STEP:
            return False
        self.said = now, percent // STEP * STEP
        return True

    def text(self) -> str:
        """Write it as `12.3 GB of 140.0 GB (8 %), 85.2 MB/s, 24m58s left`."""
        words = [units.size(self.done)]
        if self.total:
            done = min(self.done, self.total)
            words = [f"{units.size(done)} of {units.size(self.total)} ({100 * done // self.total} %)"]
        rate = self.rate()
        if rate is not None and self.done != self.total:
            words.append(f"{units.size(rate)}/s")
            if rate and self.total and self.done < self.total:
                words.append(f"{units.age((self.total - self.done) / rate)} left")
        return ", ".join(words) + (f"; {self.by} downloads it" if self.by else "")


@dataclass(slots=True)
class _Row:
    """What the live view knows of a pod."""

    pod: str
    phase: str = "connecting"
    began: float = field(default_factory=time.monotonic)
    download: Download = field(default_factory=Download)
    last_line: str = ""
    phase_said: str = ""
    ended: float | None = None
    failure: str | None = None

    def see(self, event: Event) -> None:
        match event:
            case Phase():
                self.phase = _phase(event)
            case Progress(done=done, total=total, by=by):
                self.phase = DOWNLOADING
                self.download.see(done, total, by, time.monotonic())
            case Output(text=text):
                lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
                self.last_line = lines[-1] if lines else self.last_line
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
        return safe(self.last_line, colour=False)

    def is_news(self, phase: Phase) -> bool:
        """Tell whether a phase deserves a line of its own: another count of the same (`3/8`) does not."""
        bare = _without_count(phase.text)
        is_new, self.phase_said = bare != self.phase_said, bare
        return is_new


@contextmanager
def _live(rows: dict[str, _Row]) -> Iterator[Report]:
    from rich.live import Live

    console = terminal.err()

    def render() -> "Table":
        return _render(rows.values(), console.width)

    with questions.drawing(lambda: Live(console=console, get_renderable=render, refresh_per_second=8, transient=True)):

        def report(event: Event) -> None:
            row = rows[event.pod]
            row.see(event)
            if isinstance(event, Phase) and row.is_news(event):
                line = f"{row.pod}  {_clock(row)}  {_without_count(_phase(event))}"
                console.print(line, style="dim", soft_wrap=True)
            if isinstance(event, Ended) and event.failure and len(rows) > 1:
                console.print(f"{row.pod}  {_clock(row)}  failed: {row.detail()}", style="red", soft_wrap=True)
            if isinstance(event, Note):
                terminal.note(f"{event.pod}: {event.text}", console)

        yield report


def _render(rows: Iterable[_Row], width: int) -> "Table":
    """Draw a row per pod. The log's last line gets the room that is left, and the `^C` that terminals echo some too."""
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


def _print_plainly(row: _Row, event: Event, *, is_alone: bool) -> None:
    """Print a line when something changed that a person reading a file would want to know."""
    row.see(event)
    say: Callable[[str], None] = lambda text: terminal.err().print(f"{row.pod}: {text}", soft_wrap=True)  # noqa: E731
    match event:
        case Phase() if row.is_news(event):
            say(_without_count(_phase(event)))
        case Progress() if row.download.is_news(time.monotonic()):
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


def _clock(row: _Row) -> str:
    minutes, seconds = divmod(int((row.ended or time.monotonic()) - row.began), 60)
    return f"{minutes}:{seconds:02}"

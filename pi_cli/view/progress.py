"""Work on pods while it runs: one live row per pod on a terminal, plain lines elsewhere. All of it on stderr."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.events import Event, Note, Output, Phase, Progress, Report
from pi_cli.view import questions, terminal
from pi_cli.view.safe import safe

if TYPE_CHECKING:
    from rich.table import Table

STEP = 25  # percent of a download between two plain lines


@contextmanager
def following(pods: Iterable[str]) -> Iterator[Report]:
    """Show what pods do while the block runs."""
    rows = {pod: _Row(pod) for pod in pods}
    if terminal.err().is_terminal:
        with _live(rows) as report:
            yield report
    else:
        yield lambda event: _print_plainly(rows[event.pod], event)


@dataclass(slots=True)
class _Row:
    """What the live view knows of a pod."""

    pod: str
    phase: str = "connecting"
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int | None = None
    last_line: str = ""
    percent_said: int = -STEP
    phase_said: str = ""

    def see(self, event: Event) -> None:
        match event:
            case Phase(text=text):
                self.phase = text
            case Progress(done=done, total=total):
                self.phase, self.done, self.total = "downloading", done, total
            case Output(text=text):
                lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
                self.last_line = lines[-1] if lines else self.last_line
            case Note():
                pass

    def detail(self) -> str:
        if self.phase == "downloading":
            return _download(self.done, self.total)
        return safe(self.last_line, colour=False)

    def is_news(self, phase: Phase) -> bool:
        """Tell whether a phase deserves a line of its own: another count of the same (`3/8`) does not."""
        bare = re.sub(r" \d+/\d+$", "", phase.text)
        is_new, self.phase_said = bare != self.phase_said, bare
        return is_new

    @property
    def percent(self) -> int:
        return 100 * self.done // self.total if self.total else 0


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
                console.print(f"{row.pod}  {_clock(row)}  {event.text}", style="dim", soft_wrap=True)
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
        name = Spinner("dots", Text(row.pod, style="bold"))
        table.add_row(name, Text(_clock(row)), Text(row.phase), Text(row.detail(), style="dim"))
    return table


def _print_plainly(row: _Row, event: Event) -> None:
    """Print a line when something changed that a person reading a file would want to know."""
    row.see(event)
    say: Callable[[str], None] = lambda text: terminal.err().print(f"{row.pod}: {text}", soft_wrap=True)  # noqa: E731
    match event:
        case Phase(text=text) if row.is_news(event):
            say(text)
        case Progress() if row.percent >= row.percent_said + STEP:
            row.percent_said = row.percent // STEP * STEP
            say(f"downloading {_download(row.done, row.total)}")
        case Note(text=text):
            say(text)
        case _:
            pass


def _clock(row: _Row) -> str:
    minutes, seconds = divmod(int(time.monotonic() - row.began), 60)
    return f"{minutes}:{seconds:02}"


def _download(done: int, total: int | None) -> str:
    if not total:
        return f"{size(done)}"
    return f"{size(min(done, total))} of {size(total)} ({min(100, 100 * done // total)} %)"


def size(count: float) -> str:
    """Write bytes as the Hub does, in powers of ten.

    >>> size(1_520_000_000)
    '1.5 GB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

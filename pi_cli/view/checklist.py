"""Setup while it runs: a live checklist on a terminal, a line per step elsewhere. All of it on stderr."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.errors import PiError
from pi_cli.events import Event, Note, Output, Report, Step, StepState
from pi_cli.safe import safe
from pi_cli.view import questions, terminal

if TYPE_CHECKING:
    from rich.text import Text

TAIL = 15  # lines of a failed step's output that are shown
STYLES = {"done": "green", "skipped": "dim", "failed": "red", "stopped": "yellow"}
ENDED = STYLES.keys()


@contextmanager
def following(pod: str, *, verbose: bool = False) -> Iterator[Report]:
    """Show the setup of a pod while the block runs; with `verbose` plainly, and with all that programs print."""
    setup = _Setup(pod)
    try:
        if _is_live() and not verbose:
            with _live(setup) as report:
                yield report
        else:
            yield lambda event: _print_plainly(setup, event, verbose=verbose)
    except PiError:
        if not verbose:
            _show_tail(setup)
        raise
    except BaseException:
        if setup.items:
            terminal.note(f"setup of `{pod}` is broken off: what it started there ends too; run it again to go on")
        raise
    _print(f"{pod}: ready in {units.duration(time.monotonic() - setup.began)}", "dim")


@dataclass(slots=True)
class _Item:
    """A step as it is shown; `detail` is what it, or a program in it, said last."""

    title: str
    state: StepState = "began"
    detail: str = ""
    began: float = field(default_factory=time.monotonic)
    took: float | None = None
    output: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began if self.took is None else self.took

    def see(self, event: Step | Output) -> None:
        if isinstance(event, Output):
            self.output.append(event.text)
            self.detail = event.text if event.text.strip() else self.detail
            return
        self.state = event.state
        self.detail = event.detail
        if event.state in ENDED:
            self.took = self.seconds


@dataclass(slots=True)
class _Setup:
    """All that is known of a setup, in the order in which its steps began."""

    pod: str
    items: dict[str, _Item] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    failed: _Item | None = None

    def see(self, event: Event) -> None:
        if isinstance(event, Step) and event.state == "began":
            self.items[event.name] = _Item(event.title)
        elif isinstance(event, Step):
            self.items[event.name].see(event)
            if event.state == "failed" and not self.failed:
                self.failed = self.items[event.name]
        elif isinstance(event, Output) and event.step in self.items:
            self.items[event.step].see(event)


def _is_live() -> bool:
    """Tell whether the screen can be drawn over: it cannot on dumb terminals, and FORCE_COLOR makes none of a file."""
    return sys.stderr.isatty() and terminal.err().is_interactive


@contextmanager
def _live(setup: _Setup) -> Iterator[Report]:
    from rich.live import Live

    console = terminal.err()
    draw = _Draw(is_ascii=wants_ascii(console.encoding))

    def report(event: Event) -> None:
        setup.see(event)
        if isinstance(event, Note):
            terminal.note(f"{event.pod}: {event.text}", console)

    def render() -> "Text":
        return draw.checklist(setup, console.width - len("^C") - 1)  # terminals echo that

    try:
        with questions.drawing(
            lambda: Live(console=console, get_renderable=render, refresh_per_second=10, transient=True)
        ):
            yield report
    finally:
        if setup.items:
            console.print(draw.checklist(setup, console.width - 1))


class _Draw:
    """Draws the checklist into a given width, in ASCII where the terminal knows no better."""

    def __init__(self, *, is_ascii: bool) -> None:
        self._marks = dict(zip(STYLES, "+-x!" if is_ascii else "✓–✗■", strict=True))
        self._frames = "|/-\\" if is_ascii else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        self._ellipsis = "..." if is_ascii else "…"

    def checklist(self, setup: _Setup, width: int) -> "Text":
        from rich.text import Text

        items = list(setup.items.values())  # drawn by a thread of its own: more may begin meanwhile
        rows = [self._row(item, items, max(width, 1)) for item in items]
        if not rows:
            rows = [Text(self._cut(f"{self._frame()} connecting to {setup.pod}", max(width, 1)))]
        text = Text("\n", no_wrap=True, overflow="crop").join(rows)
        text.no_wrap, text.overflow = True, "crop"
        return text

    def _row(self, item: _Item, items: list[_Item], width: int) -> "Text":
        """Draw a step: mark, title, what it said last where there is room, and its time at the right."""
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        clock = units.duration(item.seconds, running=item.took is None)
        titles = max(cell_len(each.title) for each in items)
        clocks = max(len(units.duration(each.seconds, running=each.took is None)) for each in items)
        room = width - titles - clocks - len("m ") - 2 * len("  ")
        mark = (self._marks.get(item.state) or self._frame(), STYLES.get(item.state, "cyan"))
        title = item.title if room >= 0 else self._cut(item.title, width - clocks - len("m ") - len("  "))
        gap = "  " if title else ""
        if room < 8:  # columns, fewer than which say nothing
            titles, detail = max(width - clocks - len("m ") - len("  "), 0), ""
        else:
            detail = "  " + set_cell_size(self._cut(_one_line(item.detail), room), room)
        row = Text.assemble(mark, " ", set_cell_size(title, titles), (detail, "dim"), gap, (clock.rjust(clocks), "dim"))
        row.truncate(width)
        return row

    def _cut(self, text: str, width: int) -> str:
        from rich.cells import cell_len, set_cell_size

        if cell_len(text) <= width:
            return text
        short = width - len(self._ellipsis)
        return set_cell_size(text, short) + self._ellipsis if short > 0 else set_cell_size(text, max(width, 0))

    def _frame(self) -> str:
        return self._frames[int(time.monotonic() * 10) % len(self._frames)]


def wants_ascii(encoding: str) -> bool:
    """Tell whether the terminal's locale is C. Python itself turns LANG=C into LC_CTYPE=C.UTF-8."""
    chosen = [os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    effective = next((value for value in chosen if value), "")
    if not chosen[0] and chosen[1].upper().replace("UTF8", "UTF-8") == "C.UTF-8":
        effective = chosen[2]
    return effective in ("C", "POSIX") or "utf" not in encoding.lower()


def _print_plainly(setup: _Setup, event: Event, *, verbose: bool) -> None:
    """Print a line where a step has ended, waits or warns; with `verbose` also where it begins, and what it prints."""
    setup.see(event)
    say: Callable[[str], None] = lambda text: _print(f"{setup.pod}: {text}")  # noqa: E731
    match event:
        case Step(state="began", title=title) if verbose:
            say(f"{title}...")
        case Step(state="waiting", title=title, detail=detail):
            say(f"{title}: {detail}")
        case Step(name=name, state=state) if state in ENDED:
            say(_ended(setup.items[name]))
        case Output(text=text, step=step) if verbose:
            say(f"{step} | {text}")
        case Note(text=text):
            say(text)
        case _:
            pass


def _ended(item: _Item) -> str:
    said = [item.detail] if item.detail else []
    words = said or ["done"] if item.state == "done" else [item.state, *said]
    took = "" if item.state == "skipped" and item.seconds < 1 else f" ({units.duration(item.seconds)})"
    return f"{item.title}: {', '.join(words)}{took}"


def _show_tail(setup: _Setup) -> None:
    """Show what programs printed last in the step that failed first."""
    for line in setup.failed.output if setup.failed else ():
        _print(f"  {line}", "dim")


def _print(line: str, style: str = "") -> None:
    from rich.text import Text

    terminal.err().print(Text(_one_line(line), style=style), soft_wrap=True)


def _one_line(text: str) -> str:
    """Make what a remote program printed fit for one row of a screen."""
    return safe(text, colour=False).expandtabs(1).replace("\n", " ").rstrip()

"""Progress of a setup: a live checklist on a terminal, one line per step elsewhere. All of it on stderr."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.errors import PiError
from pi_cli.events import Announced, Counted, Event, Note, Output, Report, Step, StepState
from pi_cli.lazy_dataclasses import dataclass, field
from pi_cli.safe import safe
from pi_cli.view import questions, terminal
from pi_cli.view.tables import wants_ascii

if TYPE_CHECKING:
    from rich.text import Text

TAIL_LINES = 15  # shown of a failed step's output
MIN_DETAIL_WIDTH = 8  # columns; a message in fewer is not shown
MIN_COUNT_WIDTH = 16  # columns; a count in fewer gets a row of its own
FIRST_LINE = 30.0  # seconds until a step gets a line without a terminal, and then one every
LINE_INTERVAL = 60.0  # seconds
RATE_WINDOW = 10.0  # seconds
MAX_DETAIL = 160  # characters of a program's line in a line of ours
STATE_STYLES = {"done": "green", "skipped": "dim", "failed": "red", "stopped": "yellow"}
END_STATES = STATE_STYLES.keys()


@contextmanager
def following(pod: str, *, verbose: bool = False) -> Iterator[Report]:
    """Show the setup of a pod while the block runs; with `verbose` as plain lines, with the output of all programs."""
    setup = Setup(pod)
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
            terminal.note(
                f"setup of `{pod}` was interrupted, and its processes there are stopped; run it again to continue"
            )
        raise


@dataclass(slots=True)
class _ShownStep:
    """A step on the screen; `detail` is the latest message of the step or of a program in it."""

    title: str
    state: StepState = "began"
    detail: str = ""
    count: str = ""  # "3.2 of 4.0 GB, 45.1 MB/s", while there is something to count
    began: float = field(default_factory=time.monotonic)
    took: float | None = None
    output: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    next_line: float = 0.0  # without a terminal: when it gets one, in seconds since it began
    _message: str = ""  # the latest one of the step itself
    _counts: deque[tuple[float, int]] = field(default_factory=deque)  # bytes, of the last seconds

    @property
    def rank(self) -> int:
        """Return how much a step matters where not all can be shown; the smallest number counts most."""
        return 0 if self.took is None else 1 if self.state == "failed" else 2

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began if self.took is None else self.took

    def update(self, event: Step | Output | Announced | Counted) -> None:
        match event:
            case Output(text=text):
                self.output.append(text)
                self.detail = text if text.strip() else self.detail
            case Announced():
                self.detail = ", ".join(part for part in (self._message, announcement(event)) if part)
            case Counted():
                self.count = self._worded(event)
            case Step(state=state, detail=detail):
                self.state, self.detail, self._message, self.count = state, detail, detail, ""
                if state in END_STATES:
                    self.took = self.seconds

    def is_due(self) -> bool:
        """Return whether a running step gets a line now, without a terminal."""
        if self.took is not None or self.seconds < max(self.next_line, FIRST_LINE):
            return False
        self.next_line = self.seconds + LINE_INTERVAL
        return True

    def _worded(self, event: Counted) -> str:
        if event.done is None:
            self._counts.clear()
            return ""
        if event.unit != "bytes":
            return f"{event.done} of {event.total} {event.unit}" if event.total else f"{event.done} {event.unit}"
        now = time.monotonic()
        if self._counts and event.done < self._counts[-1][1]:  # the next download has begun
            self._counts.clear()
        self._counts.append((now, event.done))
        while now - self._counts[0][0] > RATE_WINDOW:
            self._counts.popleft()
        then, before = self._counts[0]
        rate = f", {units.size((event.done - before) / (now - then))}/s" if now - then >= 1 else ""
        received = units.part(event.done, event.total) if event.total else f"{units.size(event.done)} received"
        return received + rate


@dataclass(slots=True)
class Setup:
    """The state of a setup; its steps are in the order in which they began."""

    pod: str
    items: dict[str, _ShownStep] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    failed: _ShownStep | None = None

    @property
    def current(self) -> _ShownStep:
        """Return the step that began last of those that run, or the last one."""
        steps = list(self.items.values())
        return next((step for step in reversed(steps) if step.took is None), steps[-1])

    def update(self, event: Event) -> None:
        if isinstance(event, Step) and event.state == "began":
            self.items[event.name] = _ShownStep(event.title)
        elif isinstance(event, Step):
            self.items[event.name].update(event)
            if event.state == "failed" and not self.failed:
                self.failed = self.items[event.name]
        elif isinstance(event, Output) and event.step in self.items:
            self.items[event.step].update(event)
        elif isinstance(event, Announced | Counted):
            self.items[event.name].update(event)


def announcement(event: Announced) -> str:
    """Say what a step downloads and how long it usually takes.

    >>> announcement(Announced("dc1", "vllm", 4_000_000_000, (120, 300)))
    'downloads about 4.0 GB, usually takes 2 to 5 min'
    >>> announcement(Announced("dc1", "vllm", None, (20, 60)))
    'usually takes 20 to 60 s'
    """
    parts = [f"downloads about {units.size(event.size)}"] if event.size else []
    if event.seconds:
        shortest, longest = event.seconds
        in_minutes = shortest >= 60
        span = f"{shortest // 60} to {-(-longest // 60)} min" if in_minutes else f"{shortest} to {longest} s"
        parts.append(f"usually takes {span}")
    return ", ".join(parts)


def _is_live() -> bool:
    """Return whether stderr can be redrawn: not on dumb terminals, and not in a file, even with FORCE_COLOR."""
    return sys.stderr.isatty() and terminal.err().is_interactive


@contextmanager
def _live(setup: Setup) -> Iterator[Report]:
    from pi_cli.view import live

    console = terminal.err()
    renderer = _ChecklistRenderer(is_ascii=wants_ascii(console.encoding))

    def report(event: Event) -> None:
        setup.update(event)
        if isinstance(event, Note):
            terminal.note(f"{event.pod}: {event.text}", console)

    def render(height: int | None) -> "Text":
        return renderer.checklist(setup, console.width - len("^C") - 1, height)  # terminals echo `^C`

    try:
        with questions.drawing(lambda: live.view(console, render, refresh_per_second=10)):
            yield report
    finally:
        if setup.items:
            console.print(renderer.checklist(setup, console.width - 1))


class _ChecklistRenderer:
    """Draws the checklist in a given width, in ASCII if the terminal has nothing else."""

    def __init__(self, *, is_ascii: bool) -> None:
        self._marks = dict(zip(STATE_STYLES, "+-x!" if is_ascii else "✓–✗■", strict=True))
        self._frames = "|/-\\" if is_ascii else "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        self._ellipsis = "..." if is_ascii else "…"

    def checklist(self, setup: Setup, width: int, height: int | None = None) -> "Text":
        """Draw the steps; if there are more than fit into the height, the running ones and the latest others."""
        from rich.text import Text

        items = list(setup.items.values())  # a copy: this runs in another thread, and more steps may begin
        width = max(width, 1)
        rows = self._cropped([(item, self._rows(item, items, width)) for item in items], width, height)
        if not rows:
            rows = [Text(self._cut(f"{self._frame()} connecting to {setup.pod}", width))]
        text = Text("\n", no_wrap=True, overflow="crop").join(rows)
        text.no_wrap, text.overflow = True, "crop"
        return text

    def _cropped(self, drawn: "list[tuple[_ShownStep, list[Text]]]", width: int, height: int | None) -> "list[Text]":
        from rich.text import Text

        if height is None or sum(len(rows) for _, rows in drawn) <= height:
            return [row for _, rows in drawn for row in rows]
        room = max(height - 1, 1)  # the first row says how many are left out
        shown: set[int] = set()
        by_rank = sorted(range(len(drawn)), key=lambda at: (drawn[at][0].rank, -at))
        for at in by_rank:
            if len(drawn[at][1]) <= room:
                shown.add(at)
                room -= len(drawn[at][1])
        rows = [row for at in sorted(shown) for row in drawn[at][1]]
        if height > 1:
            rows.insert(0, Text(self._cut(f"{self._ellipsis} {len(drawn) - len(shown)} more steps", width), "dim"))
        return rows

    def _rows(self, item: _ShownStep, items: list[_ShownStep], width: int) -> "list[Text]":
        """Draw a step: mark, title, count or latest message if it fits, and its time at the right."""
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        time_text = units.duration(item.seconds, running=item.took is None)
        title_width = max(cell_len(other.title) for other in items)
        time_width = max(len(units.duration(other.seconds, running=other.took is None)) for other in items)
        detail_width = width - title_width - time_width - len("m ") - 2 * len("  ")
        mark = (self._marks.get(item.state) or self._frame(), STATE_STYLES.get(item.state, "cyan"))
        title = item.title if detail_width >= 0 else self._cut(item.title, width - time_width - len("m ") - len("  "))
        gap = "  " if title else ""
        if detail_width < MIN_DETAIL_WIDTH:
            title_width, detail = max(width - time_width - len("m ") - len("  "), 0), ""
        else:
            shown = item.count if item.count and detail_width >= MIN_COUNT_WIDTH else _one_line(item.detail)
            detail = "  " + set_cell_size(self._cut(shown, detail_width), detail_width)
        title = set_cell_size(title, title_width)
        row = Text.assemble(mark, " ", title, (detail, "dim"), gap, (time_text.rjust(time_width), "dim"))
        row.truncate(width)
        if item.count and detail_width < MIN_COUNT_WIDTH:
            return [row, Text(self._cut(f"  {item.count}", width), "dim")]
        return [row]

    def _cut(self, text: str, width: int) -> str:
        from rich.cells import cell_len, set_cell_size

        if cell_len(text) <= width:
            return text
        short = width - len(self._ellipsis)
        return set_cell_size(text, short) + self._ellipsis if short > 0 else set_cell_size(text, max(width, 0))

    def _frame(self) -> str:
        return self._frames[int(time.monotonic() * 10) % len(self._frames)]


def _print_plainly(setup: Setup, event: Event, *, verbose: bool) -> None:
    """Print a line when a step ends, waits or warns, and every minute of a long one, of which the script reports often.

    With `verbose` also when it begins, and its output.
    """
    setup.update(event)
    say: Callable[[str], None] = lambda text: _print(f"{setup.pod}: {text}")  # noqa: E731
    match event:
        case Step(state="began", title=title) if verbose:
            say(f"{title}...")
        case Step(state="waiting", title=title, detail=detail):
            say(f"{title}: {detail}")
        case Step(name=name, state=state) if state in END_STATES:
            say(end_line(setup.items[name]))
        case Announced(name=name):
            say(f"{setup.items[name].title}: {setup.items[name].detail}")
        case Counted(name=name) if setup.items[name].is_due():
            say(_running_line(setup.items[name]))
        case Output(text=text, step=step) if verbose:
            say(f"{step} | {text}")
        case Note(text=text):
            say(text)
        case _:
            pass


def _running_line(item: _ShownStep) -> str:
    doing = item.count or _one_line(item.detail).strip()[:MAX_DETAIL] or "still running"
    return f"{item.title}: {doing} ({units.duration(item.seconds)})"


def end_line(item: _ShownStep) -> str:
    details = [item.detail] if item.detail else []
    parts = details or ["done"] if item.state == "done" else [item.state, *details]
    took = "" if item.state == "skipped" and item.seconds < 1 else f" ({units.duration(item.seconds)})"
    return f"{item.title}: {', '.join(parts)}{took}"


def _show_tail(setup: Setup) -> None:
    """Show the last output of the step that failed first."""
    for line in setup.failed.output if setup.failed else ():
        _print(f"  {line}", "dim")


def _print(line: str, style: str = "") -> None:
    from rich.text import Text

    terminal.err().print(Text(_one_line(line), style=style), soft_wrap=True)


def _one_line(text: str) -> str:
    """Make the output of a remote program safe, on one line."""
    return safe(text, colour=False).expandtabs(1).replace("\n", " ").rstrip()

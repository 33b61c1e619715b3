"""Live views that leave nothing behind: never higher than the screen, and removed as a whole when they end."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import ControlType, Segment
from rich.text import Text

from pi_cli.view import tables

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

# Programs that cut a line off when the window becomes narrower; all others wrap it.
WITHOUT_REFLOW = ("linux", "rxvt", "screen", "vt")


def view(
    console: "Console",
    draw: "Callable[[int | None], RenderableType]",
    *,
    refresh_per_second: float,
    stays: bool = False,
) -> Live:
    """Make a live view of what `draw` returns for a number of rows, and at the end of one that `stays`, for None.

    The last row of the screen stays free for the cursor: a view that uses it scrolls the screen when it ends, and the
    row that leaves the screen cannot be removed any more.
    """
    return _View(console, draw, refresh_per_second=refresh_per_second, stays=stays)


def joined(lines: Iterable[Text]) -> Text:
    """Join lines; each is wrapped where it is longer than the screen is wide."""
    text = Text("\n", overflow="fold").join(lines)
    text.overflow = "fold"
    return text


def fitting(
    head: Sequence[Text], groups: Sequence[Sequence[Text]], height: int | None, noun: str, ellipsis: str
) -> list[Text]:
    """Return the lines of the first groups that fit the height; if not all do, the last line says how many are left."""
    if height is None or len(head) + sum(map(len, groups)) <= height:
        return [*head, *(line for group in groups for line in group)]
    lines = [*head]
    shown = 0
    for group in groups:
        if len(lines) + len(group) > height - 1:
            break
        lines += group
        shown += 1
    lines = lines[: max(height - 1, 0)]
    return [*lines, Text(f"{ellipsis} {len(groups) - shown} more {noun}", style="dim")]


class _View(Live):
    def __init__(
        self,
        console: "Console",
        draw: "Callable[[int | None], RenderableType]",
        *,
        refresh_per_second: float,
        stays: bool,
    ) -> None:
        self._draw = draw
        self._stays = stays
        super().__init__(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=refresh_per_second,
            transient=not stays,
        )
        self._live_render = _Frame(self)

    @property
    def room(self) -> int | None:
        """Return the rows for the next frame; None for the last one of a view that stays."""
        is_last = self._stays and self.vertical_overflow == "visible"  # what rich sets when it stops
        return None if is_last else max(self.console.height - 1, 1)

    def _drawn(self) -> "RenderableType":
        return self._draw(self.room)


class _Frame(LiveRender):
    """A frame that is cut to the height of the screen, and removed with the rows into which narrowing has split it."""

    def __init__(self, view: _View) -> None:
        super().__init__("")
        self._view = view
        self._sizes: list[int] = []  # cells of each line of the last frame

    def position_cursor(self) -> Control:
        return self._erased(self._rows() - 1)

    def restore_cursor(self) -> Control:
        return self._erased(self._rows())

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        lines = [_trimmed(line) for line in console.render_lines(self.renderable, options, pad=False)]
        lines = _cropped(lines, self._view.room, console)
        self._shape = Segment.get_shape(lines)
        self._sizes = [Segment.get_line_length(line) for line in lines]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line

    def _rows(self) -> int:
        width = max(self._view.console.width, 1)
        if _cuts_lines_off():
            return len(self._sizes)
        return sum(max(-(-size // width), 1) for size in self._sizes)

    def _erased(self, rows: int) -> Control:
        if not self._sizes:
            return Control()
        upwards = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * max(rows, 0)
        return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *upwards)


def _cropped(lines: list[list[Segment]], room: int | None, console: "Console") -> list[list[Segment]]:
    """Return the first lines; if not all fit, the last one says how many are left out."""
    if room is None or len(lines) <= room:
        return lines
    left_out = len(lines) - room + 1
    more = Text(f"{tables.ellipsis(console.encoding)} {left_out} more", style="dim", end="")
    return [*lines[: room - 1], list(console.render(more))]


def _trimmed(line: Sequence[Segment]) -> list[Segment]:
    """Return a line without the blanks at its end: where a window becomes narrower, they would be wrapped too."""
    kept = list(line)
    while kept and not kept[-1].text.strip() and not kept[-1].control:
        kept.pop()
    return kept


def _cuts_lines_off() -> bool:
    name = os.environ.get("TERM", "")
    return "TMUX" not in os.environ and ("XTERM_VERSION" in os.environ or name.startswith(WITHOUT_REFLOW))

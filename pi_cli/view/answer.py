"""An answer on a terminal: Markdown, rendered while it streams in.

Complete blocks are printed once and stay, also in the scrollback. Only the block that still grows is redrawn: at most
the part at its end that fits the screen.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.text import Text

from pi_cli.safe import Sanitizer
from pi_cli.view import markdown, open_blocks, waiting
from pi_cli.view.markdown import MarkdownBlock
from pi_cli.view.open_blocks import Code, OpenBlock

DRAW_INTERVAL = 0.08  # seconds; a stream may deliver hundreds of pieces in that time
REST = 15  # the time between drawings at least, as a multiple of what the last one took
LONGEST_INTERVAL = 3.0  # seconds
ALWAYS_FINAL = ("heading_open", "hr", "fence")
NEVER_FINAL = ("list_item_open", "code_block")  # they may continue after an empty line
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
CURSOR_UP, ERASE_LINE = "\x1b[1A", "\x1b[2K"
DEFAULT_SIZE = os.terminal_size((80, 24))


def is_renderable(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal that can redraw lines and show the characters that pi uses."""
    return (
        stream.isatty()
        and environ.get("TERM", "dumb") not in ("dumb", "unknown")
        and (stream.encoding or "").lower().replace("-", "") == "utf8"
    )


class Rendered:
    """An answer that arrives in pieces. Nothing in it can steer the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._sanitizer = Sanitizer(colour=False)
        self._arrived: list[str] = []  # text that was not looked at yet
        self._source = ""  # text before it that is not final yet
        self._open: OpenBlock | None = None  # the block that the source continues
        self._is_in_list = False
        self._has_begun = False
        self._has_printed = False
        self._height = 0  # lines on the screen that may still change
        self._next_drawing = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def write(self, text: str) -> None:
        safe = self._sanitizer.feed(text)
        safe = safe if self._has_begun else safe.lstrip("\n")
        if safe:
            self._has_begun = True
            self._arrived.append(safe)
            self._draw_soon()

    def end(self) -> None:
        """Print the rest and leave the cursor at the start of a line."""
        self._arrived.append(self._sanitizer.end())
        self._draw(is_end=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the growing block while the block runs, so that other text can be printed above it."""
        self._draw(is_growing_shown=False)
        yield
        self._draw()

    def _completed(self, *, is_end: bool) -> list[Text]:
        """Remove from the source, and return rendered, everything that can no longer change."""
        self._source += "".join(self._arrived)
        self._arrived.clear()
        if is_end:
            self._source = self._source.rstrip("\n")
        final: list[Text] = []
        while "\n" in self._source or is_end:
            before = self._open
            lines = self._continue(before, is_end=is_end) if before else self._take_blocks(is_end=is_end)
            self._has_printed |= bool(lines)
            final += lines
            if self._open is before or not self._source:
                break
        if is_end and self._open:
            final += self._open.end(self._console)
        return final

    def _take_blocks(self, *, is_end: bool) -> list[Text]:
        complete = self._source if is_end else self._source[: self._source.rfind("\n") + 1]
        lines = complete.split("\n")
        blocks = markdown.blocks(complete)
        if not blocks:
            return []
        last = blocks[-1]
        final = self._rendered(blocks[:-1])
        is_first = not (self._has_printed or final)
        is_last_final = is_end or _is_final(last, len(lines))
        opened = None
        if not is_end and (last.token.type == "fence" or not is_last_final):
            opened = open_blocks.opened(last, lines[last.start : last.end], is_first=is_first)
        if opened:
            is_last_final = False
            start = last.end
            if isinstance(opened, Code):
                start = last.start + 1
                final += [] if is_first else [Text()]
        elif is_last_final:
            final = self._rendered(blocks)
            start = len(lines)
        else:
            start = last.start
        self._source = "\n".join(lines[start:]) + self._source[len(complete) :]
        self._is_in_list = not is_last_final and (last.follows or (len(blocks) == 1 and self._is_in_list))
        self._open = opened
        return final

    def _continue(self, block: OpenBlock, *, is_end: bool) -> list[Text]:
        complete, _, growing = (self._source, "", "") if is_end else self._source.rpartition("\n")
        final, rest = block.take(complete.split("\n"), self._console) if complete or not is_end else ([], None)
        if rest is not None:
            self._open = None
            growing = "\n".join([*rest, *([] if is_end else [growing])])
        self._source = growing
        return final

    def _growing(self) -> list[Text]:
        """Render the end of the text that may still change."""
        console = self._console
        blocks = [] if self._open else markdown.blocks(self._source)
        growing = self._open.preview(self._source, console) if self._open else self._rendered(blocks)
        wrapped = [part for line in growing[-console.height :] for part in line.wrap(console, console.width) or [line]]
        return wrapped[-max(console.height - 2, 1) :]

    def _rendered(self, blocks: Sequence[MarkdownBlock]) -> list[Text]:
        lines: list[Text] = []
        for number, block in enumerate(blocks):
            follows = block.follows or (number == 0 and self._is_in_list)
            if (lines or self._has_printed) and not follows:
                lines.append(Text())
            lines += markdown.lines(block, self._console, self._console.width)
        return lines

    def _draw_soon(self) -> None:
        """Redraw the growing block, immediately or when the time of the next drawing has come."""
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop that could draw later
            if time.monotonic() >= self._next_drawing:
                self._draw()
            return
        self._timer = loop.call_later(max(self._next_drawing - time.monotonic(), 0), self._draw)

    def _draw(self, *, is_growing_shown: bool = True, is_end: bool = False) -> None:
        """Replace the lines that were drawn last by those that are final now, followed by the growing block.

        This is a single write, so that nothing flickers.
        """
        began = time.monotonic()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._measure()
        final = self._completed(is_end=is_end)
        drawn = self._growing() if is_growing_shown and not is_end else []
        text = "\r" + ERASE_LINE + (CURSOR_UP + ERASE_LINE) * (self._height - 1) if self._height else ""
        text += "".join(f"{self._encoded(line)}\n" for line in final)
        text += "\n".join(map(self._encoded, drawn))
        cursor = (HIDE_CURSOR if drawn and not self._height else "", SHOW_CURSOR if self._height and not drawn else "")
        self._height = len(drawn)
        if text:
            waiting.wrote(text)
            self._stream.write(cursor[0] + text + cursor[1])
            self._stream.flush()
        ended = time.monotonic()
        self._next_drawing = ended + min(max(DRAW_INTERVAL, REST * (ended - began)), LONGEST_INTERVAL)

    def _encoded(self, line: Text) -> str:
        line.rstrip()
        with self._console.capture() as captured:
            self._console.print(line, soft_wrap=True, end="")
        return captured.get()

    def _measure(self) -> None:
        """Read the size of the terminal, which may have changed."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            size = DEFAULT_SIZE
        self._console.size = size if size.columns and size.lines else DEFAULT_SIZE


def _is_final(block: MarkdownBlock, lines: int) -> bool:
    """Return whether the last block can no longer change. `lines` includes the line that is not complete yet."""
    kind = block.token.type
    return kind in ALWAYS_FINAL or (kind not in NEVER_FINAL and block.end < lines - 1)

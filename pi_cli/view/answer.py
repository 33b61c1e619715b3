"""An answer on a terminal: Markdown, rendered while it streams in.

What is complete is printed once and stays, in the scrollback too. Only the block that still grows is drawn anew, at
most as much of its end as the screen has room for.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

from rich.console import Console
from rich.text import Text

from pi_cli.safe import Sanitizer
from pi_cli.view import markdown
from pi_cli.view.markdown import Block

PAUSE = 0.08  # seconds between two drawings: a stream may bring hundreds of pieces in one
OPENING = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")
FINAL_AT_ONCE = ("heading_open", "hr", "fence")
NEVER_FINAL = ("list_item_open", "code_block")  # they go on behind an empty line
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor
UP, ERASE = "\x1b[1A", "\x1b[2K"
USUAL_SIZE = os.terminal_size((80, 24))


def is_renderable(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether a stream is a terminal that can draw lines anew, and that has the signs we use."""
    return (
        stream.isatty()
        and environ.get("TERM", "dumb") not in ("dumb", "unknown")
        and (stream.encoding or "").lower().replace("-", "") == "utf8"
    )


class Rendered:
    """An answer that comes in pieces. Nothing in it can steer the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._sanitizer = Sanitizer(colour=False)
        self._source = ""  # what is not printed yet
        self._code: _Code | None = None  # what the source is in the middle of
        self._is_in_list = False
        self._has_printed = False
        self._height = 0  # lines that are drawn of what still grows
        self._drawn_at = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    def write(self, text: str) -> None:
        self._measure()
        safe = self._sanitizer.feed(text)
        self._source += safe if self._source or self._has_printed else safe.lstrip("\n")
        final = self._completed(is_end=False) if "\n" in safe else []
        if final:
            self._draw(final)
        elif self._source:
            self._draw_soon()

    def end(self) -> None:
        """Print what is left, and leave the cursor at the start of a line."""
        self._measure()
        self._source = (self._source + self._sanitizer.end()).rstrip("\n")
        self._draw(self._completed(is_end=True), growing=False)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make room above what still grows, for something else to be printed there."""
        self._draw(growing=False)
        yield
        self._draw()

    def _completed(self, *, is_end: bool) -> list[Text]:
        """Take out of the source what nothing can change any more."""
        final: list[Text] = []
        while True:
            before = self._code
            taken = self._taken_code(before, is_end=is_end) if before else self._taken_blocks(is_end=is_end)
            self._has_printed |= bool(taken)
            final += taken
            if self._code is before or not self._source:
                return final

    def _taken_blocks(self, *, is_end: bool) -> list[Text]:
        complete = self._source if is_end else self._source[: self._source.rfind("\n") + 1]
        lines = complete.split("\n")
        found = markdown.blocks(complete)
        if not found:
            return []
        last = found[-1]
        opened = _Code.opened(lines[last.start : last.end]) if last.token.type == "fence" else None
        is_last_done = not opened and (is_end or _is_final(last, len(lines)))
        final = self._rendered(found if is_last_done else found[:-1])
        if opened and (self._has_printed or final):
            final.append(Text())
        start = len(lines) if is_last_done else last.start + bool(opened)
        self._source = "\n".join(lines[start:]) + self._source[len(complete) :]
        self._is_in_list = not is_last_done and (last.follows or (len(found) == 1 and self._is_in_list))
        self._code = opened
        return final

    def _taken_code(self, code: "_Code", *, is_end: bool) -> list[Text]:
        complete = self._source if is_end else self._source[: self._source.rfind("\n") + 1]
        lines = complete.split("\n") if is_end else complete.split("\n")[:-1]
        closing = next((number for number, line in enumerate(lines) if code.is_closed_by(line)), None)
        final = [code.take(line) for line in lines[:closing]]
        rest = "" if closing is None else "\n".join(lines[closing + 1 :])
        self._code = code if closing is None else None
        self._source = rest + ("\n" if rest and not is_end else "") + self._source[len(complete) :]
        return final

    def _growing(self) -> list[Text]:
        """Render the end of what may still change."""
        console = self._console
        growing = self._code.ahead(self._source) if self._code else self._rendered(markdown.blocks(self._source))
        wrapped = [part for line in growing for part in line.wrap(console, console.width) or [line]]
        return wrapped[-max(console.height - 2, 1) :]

    def _rendered(self, found: Sequence[Block]) -> list[Text]:
        lines: list[Text] = []
        for number, block in enumerate(found):
            follows = block.follows or (number == 0 and self._is_in_list)
            if (lines or self._has_printed) and not follows:
                lines.append(Text())
            lines += markdown.lines(block, self._console, self._console.width)
        return lines

    def _draw_soon(self) -> None:
        """Draw what grows at once, or in a moment if that has only just been done."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nobody could do it later
            self._draw()
            return
        if self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._drawn_at + PAUSE), self._draw)

    def _draw(self, final: Sequence[Text] = (), *, growing: bool = True) -> None:
        """Put what is final, and behind it what still grows, in the place of what was drawn last.

        All in one write, so that nothing flickers.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._measure()
        drawn = self._growing() if growing else []
        text = "\r" + ERASE + (UP + ERASE) * (self._height - 1) if self._height else ""
        text += "".join(f"{self._encoded(line)}\n" for line in final)
        text += "\n".join(map(self._encoded, drawn))
        cursor = (HIDE if drawn and not self._height else "", SHOW if self._height and not drawn else "")
        self._height = len(drawn)
        if text:
            self._stream.write(cursor[0] + text + cursor[1])
            self._stream.flush()
        with suppress(RuntimeError):
            self._drawn_at = asyncio.get_running_loop().time()

    def _encoded(self, line: Text) -> str:
        line.rstrip()
        with self._console.capture() as captured:
            self._console.print(line, soft_wrap=True, end="")
        return captured.get()

    def _measure(self) -> None:
        """Look at the size of the terminal, which may have changed."""
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            size = USUAL_SIZE
        self._console.size = size if size.columns and size.lines else USUAL_SIZE


def _is_final(block: Block, lines: int) -> bool:
    """Tell whether a last block can grow no more. `lines` counts the one that is not complete yet, too."""
    kind = block.token.type
    return kind in FINAL_AT_ONCE or (kind not in NEVER_FINAL and block.end < lines - 1)


@dataclass(slots=True)
class _Code:
    """Code that still comes in between its fences. Its lines are final one by one."""

    mark: str
    info: str
    lines: list[str] = field(default_factory=list)

    @classmethod
    def opened(cls, source: Sequence[str]) -> "_Code | None":
        """Return the code that these lines begin, unless they end it, too."""
        opening = OPENING.fullmatch(source[0])
        if opening is None:
            return None
        code = cls(opening[1], opening[2].strip())
        return None if any(map(code.is_closed_by, source[1:])) else code

    def is_closed_by(self, line: str) -> bool:
        text = line.strip()
        return len(text) >= len(self.mark) and not text.strip(self.mark[0]) and line[:4].strip() != ""

    def take(self, line: str) -> Text:
        """Return a line in its colours, and remember it for those that follow."""
        [shown] = self.ahead(line) or [Text()]
        self.lines.append(line)
        return shown

    def ahead(self, line: str) -> list[Text]:
        """Return a line in its colours while it may still grow."""
        return [markdown.code_line(self.lines, line, self.info)] if line else []

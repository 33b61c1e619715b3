"""An answer on a terminal: Markdown, rendered while it streams in.

Complete blocks are printed once and stay, also in the scrollback. Only the block that still grows is redrawn: at most
the part at its end that fits the screen.
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
from pi_cli.view.markdown import MarkdownBlock

DRAW_INTERVAL = 0.08  # seconds; a stream may deliver hundreds of pieces in that time
OPENING_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")
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
        self._source = ""  # text that is not final yet
        self._code: _FencedCode | None = None  # the code block that the source continues
        self._is_in_list = False
        self._has_printed = False
        self._height = 0  # lines on the screen that may still change
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
        """Print the rest and leave the cursor at the start of a line."""
        self._measure()
        self._source = (self._source + self._sanitizer.end()).rstrip("\n")
        self._draw(self._completed(is_end=True), growing=False)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the growing block while the block runs, so that other text can be printed above it."""
        self._draw(growing=False)
        yield
        self._draw()

    def _completed(self, *, is_end: bool) -> list[Text]:
        """Remove from the source, and return rendered, everything that can no longer change."""
        final: list[Text] = []
        while True:
            before = self._code
            lines = self._take_code(before, is_end=is_end) if before else self._take_blocks(is_end=is_end)
            self._has_printed |= bool(lines)
            final += lines
            if self._code is before or not self._source:
                return final

    def _take_blocks(self, *, is_end: bool) -> list[Text]:
        complete = self._source if is_end else self._source[: self._source.rfind("\n") + 1]
        lines = complete.split("\n")
        blocks = markdown.blocks(complete)
        if not blocks:
            return []
        last = blocks[-1]
        code = _FencedCode.opened_by(lines[last.start : last.end]) if last.token.type == "fence" else None
        is_last_final = not code and (is_end or _is_final(last, len(lines)))
        final = self._rendered(blocks if is_last_final else blocks[:-1])
        if code and (self._has_printed or final):
            final.append(Text())
        start = len(lines) if is_last_final else last.start + bool(code)
        self._source = "\n".join(lines[start:]) + self._source[len(complete) :]
        self._is_in_list = not is_last_final and (last.follows or (len(blocks) == 1 and self._is_in_list))
        self._code = code
        return final

    def _take_code(self, code: "_FencedCode", *, is_end: bool) -> list[Text]:
        complete = self._source if is_end else self._source[: self._source.rfind("\n") + 1]
        lines = complete.split("\n") if is_end else complete.split("\n")[:-1]
        closing = next((number for number, line in enumerate(lines) if code.is_closed_by(line)), None)
        final = [code.take(line) for line in lines[:closing]]
        rest = "" if closing is None else "\n".join(lines[closing + 1 :])
        self._code = code if closing is None else None
        self._source = rest + ("\n" if rest and not is_end else "") + self._source[len(complete) :]
        return final

    def _growing(self) -> list[Text]:
        """Render the end of the text that may still change."""
        console = self._console
        growing = self._code.preview(self._source) if self._code else self._rendered(markdown.blocks(self._source))
        wrapped = [part for line in growing for part in line.wrap(console, console.width) or [line]]
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
        """Redraw the growing block, immediately or when `DRAW_INTERVAL` has passed since the last time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop that could draw later
            self._draw()
            return
        if self._timer is None:
            self._timer = loop.call_at(max(loop.time(), self._drawn_at + DRAW_INTERVAL), self._draw)

    def _draw(self, final: Sequence[Text] = (), *, growing: bool = True) -> None:
        """Replace the lines that were drawn last by the `final` lines, followed by the growing block.

        This is a single write, so that nothing flickers.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._measure()
        drawn = self._growing() if growing else []
        text = "\r" + ERASE_LINE + (CURSOR_UP + ERASE_LINE) * (self._height - 1) if self._height else ""
        text += "".join(f"{self._encoded(line)}\n" for line in final)
        text += "\n".join(map(self._encoded, drawn))
        cursor = (HIDE_CURSOR if drawn and not self._height else "", SHOW_CURSOR if self._height and not drawn else "")
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


@dataclass(slots=True)
class _FencedCode:
    """A code block whose closing fence has not arrived yet. Each of its lines is final as soon as it is complete."""

    fence: str
    info: str
    lines: list[str] = field(default_factory=list)

    @classmethod
    def opened_by(cls, source: Sequence[str]) -> "_FencedCode | None":
        """Return the code block that these lines open, or None if they also close it."""
        opening = OPENING_FENCE.fullmatch(source[0])
        if opening is None:
            return None
        code = cls(opening[1], opening[2].strip())
        return None if any(map(code.is_closed_by, source[1:])) else code

    def is_closed_by(self, line: str) -> bool:
        text = line.strip()
        return len(text) >= len(self.fence) and not text.strip(self.fence[0]) and line[:4].strip() != ""

    def take(self, line: str) -> Text:
        """Add a complete line and return it in colour."""
        [coloured] = self.preview(line) or [Text()]
        self.lines.append(line)
        return coloured

    def preview(self, line: str) -> list[Text]:
        """Return a line in colour while it may still grow."""
        return [markdown.code_line(self.lines, line, self.info)] if line else []

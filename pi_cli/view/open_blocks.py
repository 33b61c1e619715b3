"""Blocks of an answer that are still growing, and are too long to be parsed again for each new line.

Each takes its lines once, so that a line costs the same whatever came before it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.text import Text

from pi_cli.view import markdown
from pi_cli.view.highlighting import Highlighter
from pi_cli.view.markdown import MarkdownBlock, Rows

OPENING_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")
LONG_PARAGRAPH = 64  # lines that are parsed again for each drawing
LONGEST_PARAGRAPH = 256  # emphasis that is still open after so many lines is none
PARAGRAPH = "x"  # a line before the others that opens the paragraph that they continue


class OpenBlock(Protocol):
    """A block that continues with the next line."""

    def take(self, lines: Sequence[str], console: Console) -> tuple[list[Text], list[str] | None]:
        """Take complete lines; return what is final, and once the block has ended, the lines behind it."""

    def end(self, console: Console) -> list[Text]:
        """Return the rest: there are no more lines."""

    def preview(self, line: str, console: Console) -> list[Text]:
        """Return what may still change, with a line that may still grow: at least as much of it as a screen shows."""


def opened(block: MarkdownBlock, lines: Sequence[str], *, is_first: bool) -> OpenBlock | None:
    """Return the last block of an answer as one that takes its lines once; None for one that is parsed as a whole."""
    if block.token.type == "fence":
        return Code.opened_by(lines)
    if block.token.type == "table_open":
        return Table(list(lines[:2]), markdown.rows(block.inner), is_first=is_first)
    if block.token.type == "paragraph_open" and len(lines) > LONG_PARAGRAPH:
        return Paragraph(list(lines), is_first=is_first)
    return None


@dataclass(slots=True)
class Code:
    """A code block whose closing fence has not arrived yet. Each of its lines is final as soon as it is complete."""

    fence: str
    highlighter: Highlighter
    blank: list[Text] = field(default_factory=list)  # lines at its end so far, which are not shown if it ends with them

    @classmethod
    def opened_by(cls, source: Sequence[str]) -> "Code | None":
        """Return the code block that these lines open, or None if they also close it."""
        opening = OPENING_FENCE.fullmatch(source[0])
        if opening is None:
            return None
        code = cls(opening[1], Highlighter((opening[2].split() or [""])[0]))
        return None if any(map(code.is_closed_by, source[1:])) else code

    def is_closed_by(self, line: str) -> bool:
        text = line.strip()
        return len(text) >= len(self.fence) and not text.strip(self.fence[0]) and line[:4].strip() != ""

    def take(self, lines: Sequence[str], console: Console) -> tuple[list[Text], list[str] | None]:
        del console
        closing = next((number for number, line in enumerate(lines) if self.is_closed_by(line)), None)
        final: list[Text] = []
        for line in lines[:closing]:
            self.blank.append(self.highlighter.line(line))
            if line.strip():
                final += self.blank
                self.blank = []
        return final, None if closing is None else list(lines[closing + 1 :])

    def end(self, console: Console) -> list[Text]:
        del console
        return []

    def preview(self, line: str, console: Console) -> list[Text]:
        del console
        return [*self.blank, self.highlighter.preview(line)] if line.strip() else []


@dataclass(slots=True)
class Table:
    """A table whose last row has not arrived yet: the width of its columns may still change."""

    heading: list[str]  # its first two lines
    rows: Rows
    is_first: bool  # in the answer, so that no empty line is before it

    def take(self, lines: Sequence[str], console: Console) -> tuple[list[Text], list[str] | None]:
        more, end = self._read(lines)
        self.rows.cells.extend(more)
        return (self.end(console), list(lines[end:])) if end < len(lines) else ([], None)

    def end(self, console: Console) -> list[Text]:
        return self._drawn(self.rows.cells, console)

    def preview(self, line: str, console: Console) -> list[Text]:
        more, _ = self._read([line]) if line else ([], 0)
        return self._drawn([*self.rows.cells[-console.height :], *more], console)

    def _read(self, lines: Sequence[str]) -> tuple[list[list[Text]], int]:
        """Return the rows among these lines, and the number of the first line that is not one of them."""
        first, *_ = markdown.blocks("\n".join([*self.heading, *lines]))
        return markdown.rows(first.inner).cells, first.end - len(self.heading)

    def _drawn(self, cells: list[list[Text]], console: Console) -> list[Text]:
        drawn = markdown.table(Rows(self.rows.heading, self.rows.sides, cells), console)
        return drawn if self.is_first else [Text(), *drawn]


@dataclass(slots=True)
class Paragraph:
    """Many lines without an empty one: CSV, a log, a poem. Those at its beginning are final one day."""

    lines: list[str]
    is_first: bool
    is_begun: bool = field(default=False)  # some of its lines are final already

    def take(self, lines: Sequence[str], console: Console) -> tuple[list[Text], list[str] | None]:
        self.lines += lines
        first, *_ = markdown.blocks("\n".join(self._source()))
        end = first.end - self.is_begun
        if end < len(self.lines):
            rest = self.lines[end:]
            del self.lines[end:]
            return self.end(console), rest
        # The last line may turn out to be the heading of a table.
        if len(self.lines) <= LONG_PARAGRAPH or not self._can_be_parted():
            return [], None
        *final, last = self.lines
        self.lines = final
        shown = self.end(console)
        self.lines, self.is_begun = [last], True
        return shown, None

    def end(self, console: Console) -> list[Text]:
        return self._shown(self._source(), console)

    def preview(self, line: str, console: Console) -> list[Text]:
        return self._shown([*self._source(), line], console)

    def _source(self) -> list[str]:
        return [PARAGRAPH, *self.lines] if self.is_begun else self.lines

    def _shown(self, source: Sequence[str], console: Console) -> list[Text]:
        shown: list[Text] = []
        for block in markdown.blocks("\n".join(source)):
            shown += [Text()] if shown or not self.is_first else []
            shown += markdown.lines(block, console, console.width)
        if not self.is_begun:
            return shown
        return shown[1 if self.is_first else 2 :]

    def _can_be_parted(self) -> bool:
        """Return whether its lines so far look the same whatever comes behind them."""
        return len(self.lines) > LONGEST_PARAGRAPH or markdown.is_complete("\n".join(self.lines[:-1]))

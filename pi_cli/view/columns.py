"""Lay out a table for the width of a terminal: which columns, and how much of each cell. Without rich: it is slow."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pi_cli.view.lines import UNLIMITED, Line

__all__ = ["UNLIMITED", "Cell", "Column", "Line", "Table"]

GAP = "  "
SPARE = 10  # the first rank of the columns that are shown only where the others are whole


class Column(NamedTuple):
    """A column; rank 0 is always shown, and of the others the smallest rank goes last when the terminal is narrow.

    `least` is the number of cells to which its texts may be cut; without it they are shown whole, or not at all. If it
    `is_uniform`, its texts are all short where one has to be.
    """

    name: str
    rank: int = 0
    least: int | None = None
    is_right: bool = False
    is_uniform: bool = False


class Cell(NamedTuple):
    """What a row has in a column; `short` says the same in less space, if something does."""

    text: str
    style: str = ""
    short: str = ""

    @property
    def shortest(self) -> str:
        return self.short or self.text


class Table(NamedTuple):
    """A table for one width: the line of names, one line per row, and the width of each column that is shown."""

    head: Line
    lines: Sequence[Line]
    widths: Mapping[str, int]

    @property
    def width(self) -> int:
        return sum(self.widths.values()) + len(GAP) * (len(self.widths) - 1)


def laid_out(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]], width: int, *, ellipsis: str = "…"
) -> Table:
    """Choose the columns for a width, shorten what may be shortened, and draw the lines."""
    widths = _widths(columns, rows, width)
    shown = [column for column in columns if column.name in widths]
    fitted = [_fitted(column, [row[column.name] for row in rows], widths[column.name], ellipsis) for column in shown]
    used = [_widest(column.name, texts) for column, texts in zip(shown, fitted, strict=True)]
    head = _line(shown, used, [(column.name, "bold") for column in shown])
    lines = [
        _line(shown, used, [(text, row[column.name].style) for column, text in zip(shown, texts, strict=True)])
        for row, *texts in zip(rows, *fitted, strict=True)
    ]
    return Table(head, lines, {column.name: size for column, size in zip(shown, used, strict=True)})


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """Shorten a text to a number of cells, with an ellipsis in place of its end.

    >>> cut("Qwen2.5-72B-Instruct", 12), cut("glm", 12)
    ('Qwen2.5-72B…', 'glm')
    """
    if width_of(text) <= width:
        return text
    kept = text
    while kept and width_of(kept + ellipsis) > width:
        kept = kept[:-1]
    return kept + ellipsis


def ids(text: str) -> str:
    """Shorten a list of numbers by writing three or more in a row as a range.

    >>> ids("0,1,2,3,6"), ids("0,1"), ids("-")
    ('0-3,6', '0,1', '-')
    """
    if not re.fullmatch(r"\d+(,\d+)*", text):
        return text
    runs: list[list[int]] = []
    for number in map(int, text.split(",")):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs)


def _widths(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]], width: int) -> dict[str, int]:
    """Choose the columns, and give each a number of cells."""
    texts = {column.name: [row[column.name].text for row in rows] for column in columns}
    short = {column.name: _widest(column.name, (row[column.name].shortest for row in rows)) for column in columns}
    by_rank = sorted(columns, key=lambda column: column.rank)
    widths: dict[str, int] = {}

    def room() -> int:
        return width - sum(widths.values()) - len(GAP) * max(len(widths) - 1, 0)

    for column in by_rank:
        least = short[column.name]
        if column.least is not None:
            least = min(least, max(column.least, width_of(column.name)))
        if column.rank == 0 or (column.rank < SPARE and least + len(GAP) <= room()):
            widths[column.name] = least
    wanted = [column.name for column in by_rank if column.rank < SPARE]
    for name in (name for name in wanted if name in widths):
        widths[name] += max(min(short[name] - widths[name], room()), 0)
    if all(widths.get(name) == short[name] for name in wanted):
        for column in by_rank:
            if column.rank >= SPARE and short[column.name] + len(GAP) <= room():
                widths[column.name] = short[column.name]
    for column in by_rank:
        if column.name in widths:
            most = widths[column.name] + room()
            sizes = [width_of(text) for text in texts[column.name]]
            useful = [size for size in sizes if size <= most and (not column.is_uniform or max(sizes) <= most)]
            widths[column.name] = max([widths[column.name], *useful])
    return widths


def _widest(name: str, texts: Iterable[str]) -> int:
    return max([width_of(name), *map(width_of, texts)])


def _fitted(column: Column, cells: Sequence[Cell], width: int, ellipsis: str) -> list[str]:
    """Return the texts of a column: each whole if it fits, else its short form, else cut."""
    is_short = column.is_uniform and any(width_of(cell.text) > width for cell in cells)
    return [
        cell.text if width_of(cell.text) <= width and not is_short else cut(cell.shortest, width, ellipsis)
        for cell in cells
    ]


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[tuple[str, str]]) -> Line:
    line: Line = []
    for column, width, (text, style) in zip(columns, widths, cells, strict=True):
        blanks = " " * (width - width_of(text))
        before, after = (blanks, "") if column.is_right else ("", blanks)
        line += [(before, ""), (text, style), (after + GAP, "")]
    while line and not line[-1][0].strip():
        line.pop()
    return [part for part in line if part[0]]

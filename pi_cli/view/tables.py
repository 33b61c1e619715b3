"""Print tables on stdout, without rich: loading it takes longer than everything else in `pi pods`."""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence

from pi_cli.view import columns
from pi_cli.view.columns import Cell, Column, Line


def show(names: Sequence[Column], rows: Sequence[Mapping[str, Cell]], *, is_wide: bool = False) -> None:
    """Print a table that fits the terminal; in a file or a pipe, or if `is_wide`, with all columns and whole cells."""
    width = columns.UNLIMITED if is_wide else width_of_stdout()
    table = columns.laid_out(names, rows, width, ellipsis=ellipsis(sys.stdout.encoding))
    write([table.head, *table.lines])


def write(lines: Iterable[Line]) -> None:
    """Print lines, with escape sequences if stdout is a terminal that knows them."""
    is_styled = sys.stdout.isatty() and not _is_dumb()
    is_coloured = not os.environ.get("NO_COLOR")
    for line in lines:
        text = columns.ansi(line, is_coloured=is_coloured) if is_styled else "".join(text for text, _ in line)
        sys.stdout.write(f"{text}\n")


def width_of_stdout() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else columns.UNLIMITED


def ellipsis(encoding: str | None) -> str:
    """Return the sign for what was cut off, in the characters of the terminal."""
    return "..." if wants_ascii(encoding or "ascii") else "…"


def wants_ascii(encoding: str) -> bool:
    """Return whether the terminal's locale is C. Python itself turns LANG=C into LC_CTYPE=C.UTF-8."""
    chosen = [os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    effective = next((value for value in chosen if value), "")
    if not chosen[0] and chosen[1].upper().replace("UTF8", "UTF-8") == "C.UTF-8":
        effective = chosen[2]
    return effective in ("C", "POSIX") or "utf" not in encoding.lower()


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")

"""Print tables on stdout, without rich: loading it takes longer than everything else in `pi pods`."""

import os
import sys
from collections.abc import Mapping, Sequence

from pi_cli.view import columns, lines
from pi_cli.view.columns import Cell, Column


def show(names: Sequence[Column], rows: Sequence[Mapping[str, Cell]], *, is_wide: bool = False) -> None:
    """Print a table that fits the terminal; in a file or a pipe, or if `is_wide`, with all columns and whole cells."""
    width = columns.UNLIMITED if is_wide else width_of_stdout()
    table = columns.laid_out(names, rows, width, ellipsis=ellipsis(sys.stdout.encoding))
    lines.write(sys.stdout, [table.head, *table.lines])


def width_of_stdout() -> int:
    return lines.width(sys.stdout)


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

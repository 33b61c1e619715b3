"""`pi diff`: the file, the lock and what runs, side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pi_cli.view import tables
from pi_cli.view.columns import Cell, Column

if TYPE_CHECKING:
    from pi_cli.fleet.compare import Row

NAME, WHAT = Column("NAME"), Column("WHAT", 0, least=10)
FILE, LOCK, RUNS = Column("FILE", 0, least=8), Column("LOCK", 0, least=8), Column("RUNS", 0, least=8)
ORIGIN = Column("FROM", 1)


def show(rows: "Sequence[Row]", *, has_lock: bool, is_wide: bool = False) -> None:
    """Print a table; a row that does not differ is dim. Where a side says nothing, its cell is empty."""
    columns = [NAME, WHAT, FILE, *([LOCK] if has_lock else []), RUNS, ORIGIN]
    tables.show(columns, [_cells(row) for row in rows], is_wide=is_wide)


def _cells(row: "Row") -> dict[str, Cell]:
    style = "" if row.differs else "dim"
    return {
        "NAME": Cell(f"{row.pod}/{row.model}" if row.model else row.pod, style),
        "WHAT": Cell(row.what, style),
        "FILE": Cell(row.file or "", style),
        "LOCK": Cell(row.lock or "", style, _short(row, row.lock)),
        "RUNS": Cell(row.runs or "", style, _short(row, row.runs)),
        "FROM": Cell(row.origin or "", style),
    }


def _short(row: "Row", text: str | None) -> str:
    """Shorten a digest, as git does: two that differ hardly begin alike."""
    return (text or "")[:12] if row.what in ("commit", "files") else ""


def as_json(rows: "Sequence[Row]") -> list[dict[str, Any]]:
    return [
        {
            "pod": row.pod,
            "name": row.model or None,
            "what": row.what,
            "file": row.file,
            "lock": row.lock,
            "runs": row.runs,
            "origin": row.origin,
            "differs": row.differs,
        }
        for row in rows
    ]

"""Files of rows that pi learns from starts: nothing is lost by losing one, so what cannot be read holds nothing."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pi_cli.store import files

MOST_KEPT = 500  # rows; the oldest go


class Row(Protocol):
    """A dataclass of which a file keeps the newest of each kind."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def is_of_the_same(self, other: Self) -> bool:
        """Tell whether one of the two is enough."""


R = TypeVar("R", bound=Row)


def read(path: Path, made_of: Callable[[dict[str, Any]], R | None]) -> list[R]:
    """Return the rows of a file, oldest first; `made_of` leaves out what is nonsense or of a newer pi."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = [made_of(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in found if row is not None]


def add(path: Path, new: R, made_of: Callable[[dict[str, Any]], R | None]) -> None:
    """Keep a row in place of an earlier one of the same."""
    with files.locked(path):
        kept = [each for each in read(path, made_of) if not each.is_of_the_same(new)]
        rows = [asdict(each) for each in [*kept, new][-MOST_KEPT:]]
        files.replace(path, json.dumps(rows, indent=1) + "\n")

"""Files of rows about earlier starts. pi works without them, so a file that cannot be read counts as empty."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar

from pi_cli.store import files

MAX_ROWS = 500  # the oldest rows are dropped


class Row(Protocol):
    """A dataclass whose values are rows; of rows about the same thing, the file keeps the newest."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def is_about_the_same(self, other: Self) -> bool:
        """Return whether both rows are about the same thing, for example the same model on the same GPUs."""


R = TypeVar("R", bound=Row)


def read(path: Path, parse: Callable[[dict[str, Any]], R | None]) -> list[R]:
    """Return the rows of a file, oldest first, without those for which `parse` returns None."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    parsed = [parse(row) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in parsed if row is not None]


def add(path: Path, new: R, parse: Callable[[dict[str, Any]], R | None]) -> None:
    """Add a row; it replaces an earlier one about the same thing."""
    change(path, lambda known: [*(row for row in known if not row.is_about_the_same(new)), new], parse)


def change(path: Path, changed: Callable[[list[R]], list[R]], parse: Callable[[dict[str, Any]], R | None]) -> None:
    """Replace the rows of a file by what `changed` makes of them."""
    with files.locked(path):
        after = changed(read(path, parse))[-MAX_ROWS:]
        files.replace(path, json.dumps([asdict(row) for row in after], indent=1) + "\n")

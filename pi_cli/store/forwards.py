"""The ports of this machine that lead to models: a file for each, locked for as long as the port is open."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pi_cli.store import paths


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this machine's loopback that leads to a model for as long as the process `pid` lives."""

    pod: str
    name: str
    port: int
    pid: int


@contextmanager
def remembered(forward: Forward) -> Iterator[None]:
    """Let other commands know of an open port while the block runs; that it has ended they see by the lock."""
    path = _folder() / f"{forward.port}.json"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="utf-8")
    except OSError:  # where nothing can be written, the port is open all the same
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate()
        file.write(json.dumps(asdict(forward)) + "\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def open_to(pod: str, name: str) -> list[Forward]:
    """Return the ports that lead to a model now, the lowest first."""
    found = [each for path in _folder().glob("*.json") if (each := _read(path))]
    return sorted((each for each in found if (each.pod, each.name) == (pod, name)), key=lambda each: each.port)


def _folder() -> Path:
    return paths.config_dir() / "forwards"


def _read(path: Path) -> Forward | None:
    """Read a file if its writer still holds it: a file without one is what a `kill -9` left behind."""
    try:
        with path.open(encoding="utf-8") as file:
            return None if _is_free(file) else Forward(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def _is_free(file: IO[str]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False

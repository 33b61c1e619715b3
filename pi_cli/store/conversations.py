"""The last conversation of each directory, kept for `pi prompt --continue`, and the prompts typed in chats."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pi_cli.errors import BadUsage, StateUnreadable
from pi_cli.store import files, paths

MOST_KEPT = 200  # directories; those longest untouched go
LONGEST_HISTORY = 1 << 20  # bytes; of a longer one the second half is kept


@dataclass(frozen=True, slots=True)
class Kept:
    """What was said in a directory: to which model by name, with which `--system`, in the API's own words."""

    directory: str
    model: str
    system: str | None
    messages: Sequence[dict[str, Any]]


def load(directory: Path) -> Kept:
    """Return the last conversation of a directory. Raises `BadUsage` if there is none."""
    path = _path(directory)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        kept = Kept(**data)
        if kept.directory != str(directory) or not all(isinstance(each["role"], str) for each in kept.messages):
            raise ValueError
    except FileNotFoundError as error:
        raise BadUsage(
            f"there is no conversation to continue in `{directory}`", hint="begin one: leave `--continue` out"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadUsage(
            f"the last conversation here, `{path}`, cannot be read", hint="begin a new one: leave `--continue` out"
        ) from error
    return kept


def save(kept: Kept) -> None:
    """Keep a conversation in place of the directory's last one (0600). Raises `StateUnreadable` if it cannot be."""
    path = _path(Path(kept.directory))
    folder = path.parent
    with files.locked(folder):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateUnreadable(f"cannot write `{folder}`: {error.strerror or error}") from error
        # Names of files may hold what is no text: ASCII keeps it as it is.
        files.replace(path, json.dumps(asdict(kept), indent=1) + "\n")
        _forget_oldest(folder)


def history_file() -> Path:
    """Return the file for the prompts typed in chats: private, and not too long."""
    path = paths.config_dir() / "prompt_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        if path.stat().st_size > LONGEST_HISTORY:
            half = path.read_bytes()[-LONGEST_HISTORY // 2 :]
            path.write_bytes(half[half.find(b"\n# ") :])  # an entry begins so
    except OSError as error:
        raise StateUnreadable(
            f"cannot write `{path}`: {error.strerror or error}", hint="chat without it: `--no-save`"
        ) from error
    return path


def _path(directory: Path) -> Path:
    """Return where a directory's conversation is kept: its own name may be too long for a file's, and says much."""
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]
    return paths.config_dir() / "conversations" / f"{name}.json"


def _forget_oldest(folder: Path) -> None:
    def age(path: Path) -> float:
        return path.stat().st_mtime

    for path in sorted(folder.glob("*.json"), key=age, reverse=True)[MOST_KEPT:]:
        with suppress(OSError):
            path.unlink()

"""The last conversation of each directory, for `pi prompt --continue`, and the prompts typed in chats."""

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

MAX_CONVERSATIONS = 200  # those that were not used for the longest time are deleted
MAX_HISTORY = 1 << 20  # bytes; a larger file is cut to its last half MiB


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """The last conversation in a directory: the model's name, `--system`, and the messages as the API has them."""

    directory: str
    model: str
    system: str | None
    messages: Sequence[dict[str, Any]]


def load(directory: Path) -> SavedConversation:
    """Return the last conversation of a directory. Raises `BadUsage` if there is none."""
    path = _path(directory)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        saved = SavedConversation(**data)
        if saved.directory != str(directory) or not all(isinstance(message["role"], str) for message in saved.messages):
            raise ValueError
    except FileNotFoundError as error:
        raise BadUsage(
            f"there is no conversation to continue in `{directory}`", hint="begin one: leave `--continue` out"
        ) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadUsage(
            f"the last conversation here, `{path}`, cannot be read", hint="begin a new one: leave `--continue` out"
        ) from error
    return saved


def save(conversation: SavedConversation) -> None:
    """Replace the saved conversation of a directory (0600). Raises `StateUnreadable` if it cannot be written."""
    path = _path(Path(conversation.directory))
    folder = path.parent
    with files.locked(folder):
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateUnreadable(f"cannot write `{folder}`: {error.strerror or error}") from error
        # In ASCII: file names may contain bytes that are not text, which UTF-8 cannot encode.
        files.replace(path, json.dumps(asdict(conversation), indent=1) + "\n")
        _delete_oldest(folder)


def history_file() -> Path:
    """Return the file for the prompts typed in chats; make it private, and cut it if it is too large."""
    path = paths.config_dir() / "prompt_history"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        path.chmod(0o600)
        if path.stat().st_size > MAX_HISTORY:
            half = path.read_bytes()[-MAX_HISTORY // 2 :]
            path.write_bytes(half[half.find(b"\n# ") :])  # the start of an entry
    except OSError as error:
        raise StateUnreadable(
            f"cannot write `{path}`: {error.strerror or error}", hint="chat without it: `--no-save`"
        ) from error
    return path


def _path(directory: Path) -> Path:
    """Return the file of a directory's conversation, named by a hash: a path may be too long, and is private."""
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]
    return paths.config_dir() / "conversations" / f"{name}.json"


def _delete_oldest(folder: Path) -> None:
    def age(path: Path) -> float:
        return path.stat().st_mtime

    for path in sorted(folder.glob("*.json"), key=age, reverse=True)[MAX_CONVERSATIONS:]:
        with suppress(OSError):
            path.unlink()

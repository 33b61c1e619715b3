"""The API key of the endpoints: from the variable PI_API_KEY, or else from the file `~/.pi/key` of this machine."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pi_cli.errors import BadUsage, StateUnreadable
from pi_cli.hints import fill
from pi_cli.store import debug, files, paths

VARIABLE = "PI_API_KEY"
SHORTEST, LONGEST = 8, 4000  # characters; a terminal takes 4095 in a line
NEW_SIZE = 32  # bytes
OTHERS = stat.S_IRWXG | stat.S_IRWXO
FORCE = "running models may have been started with it: see it with `pi key show`, replace it with `--force`"
REWRITE = "write it again with `pi key set --force`, or make a new one with `pi key new --force`"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, and where it comes from: the environment variable `variable`, or the file `file`.

    `started_in` is the file that had the key when the model was started, according to `pods.json`.
    """

    value: str = field(repr=False)
    variable: str = VARIABLE
    file: str | None = None
    started_in: str | None = None

    @property
    def origin(self) -> str:
        """Return where it comes from, for messages."""
        return f"`{self.file}`" if self.file else self.variable

    @property
    def record(self) -> dict[str, str]:
        """Return what `pods.json` says about the key of a model: where it was, never the key."""
        if self.file:
            return {"api_key_file": self.file}
        return {} if self.variable == VARIABLE else {"api_key_env": self.variable}


def find(variable: str = VARIABLE) -> ApiKey | None:
    """Return the key in a variable; for PI_API_KEY, if that is not set, the one in the file; None if there is none."""
    if value := os.environ.get(variable):
        return ApiKey(checked(value, variable, hint=_hint_to_replace(variable)), variable)
    return in_file() if variable == VARIABLE else None


def in_file() -> ApiKey | None:
    """Return the key in the file; None if there is no such file, or nothing in it.

    Raises `StateUnreadable` for a file that other users can read, and `BadUsage` for one without a usable key.
    """
    path = paths.key_file()
    text = _read(path)
    if not text:
        return None
    debug.hide("API key", text)
    return ApiKey(checked_to_keep(text, f"`{path}`", hint=REWRITE), file=str(path))


def checked(value: str, name: str, *, hint: str) -> str:
    """Return a secret. Raises `BadUsage` with its `name`, not its value, if an HTTP header cannot carry it."""
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadUsage(f"{name} contains characters that an HTTP header cannot carry", hint=hint)
    if len(value) < SHORTEST:
        raise BadUsage(f"{name} has fewer than {SHORTEST} characters", hint=hint)
    return value


def checked_to_keep(value: str, name: str, *, hint: str) -> str:
    """Return a key for the file; errors as of `checked`, and also for one that is too long to be read again."""
    if len(value) > LONGEST:
        raise BadUsage(f"{name} has more than {LONGEST} characters", hint=hint)
    return checked(value, name, hint=hint)


def make() -> str:
    """Return a new random key."""
    import secrets  # not at the top: few commands make keys

    return secrets.token_hex(NEW_SIZE)


def keep(value: str, *, force: bool) -> Path:
    """Write a key into the file and return its path. Raises `BadUsage` if it holds another key, unless `force`."""
    path = paths.key_file()
    debug.hide("API key", value)
    with files.locked(path):
        if not force and _is_taken(path, value):
            raise BadUsage(f"there is already a key in `{path}`", hint=FORCE)
        files.replace(path, value + "\n")
        if path.stat().st_mode & OTHERS:
            path.unlink()
            raise StateUnreadable(
                f"`{path}` would be readable for other users: its file system has no permissions",
                hint="set `PI_CONFIG_DIR` to a folder on another file system, or keep the key in PI_API_KEY",
            )
    return path


def _is_taken(path: Path, value: str) -> bool:
    """Return whether replacing a file would lose something other than this key."""
    try:
        return _read(path) not in (None, "", value)
    except StateUnreadable:
        return True


def _read(path: Path) -> str | None:
    """Return the text in a file, without a byte order mark and white space around it; None if there is no such file.

    A link is followed. What is not a regular file is not read: a FIFO would block forever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    try:
        _require_private(path, os.fstat(descriptor))
        return os.read(descriptor, 2 * LONGEST).decode("utf-8-sig", "replace").strip()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    finally:
        os.close(descriptor)


def _require_private(path: Path, status: os.stat_result) -> None:
    """Raise `StateUnreadable` unless a file is the user's own (or root's), and of no other user's business."""
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(path, "it is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise StateUnreadable(
            f"`{path}` belongs to another user, who knows the key in it or can replace it",
            hint="make a key that only you know with `pi key new --force`",
        )
    if status.st_mode & OTHERS:
        raise StateUnreadable(
            f"other users may read or write `{path}`: its mode is {stat.S_IMODE(status.st_mode):04o}",
            hint=fill("`chmod 600 {path}`; if it was read, replace the key with `pi key new --force`", path=str(path)),
        )


def _unreadable(path: Path, reason: str) -> StateUnreadable:
    hint = fill("repair or remove `{path}`, or `export {variable}=…`", path=str(path), variable=VARIABLE)
    return StateUnreadable(f"cannot read `{path}`: {reason}", hint=hint)


def _hint_to_replace(variable: str) -> str:
    if variable == VARIABLE:
        return f"`unset {VARIABLE}`, and make a key with `pi key new`"
    return fill("set another one, for example: `export {name}=$(openssl rand -hex 32)`", name=variable)

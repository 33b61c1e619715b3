"""Private files that are always complete: written under another name, flushed, renamed; changed under a lock."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pi_cli import hints
from pi_cli.errors import StateUnreadable

LOCK_TIMEOUT = 10.0  # seconds


def replace(path: Path, text: str) -> None:
    """Replace a file atomically (mode 0600). The caller holds its lock.

    A reader sees the old text or the new one, also after a crash. The next call deletes the temporary file of a crash.
    """
    path = path.resolve()  # users may keep dot files as symbolic links
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file while the block runs. The kernel releases it when the process dies, even by SIGKILL."""
    import filelock

    holder = path.with_name(path.name + ".holder")
    lock = filelock.FileLock(path.with_name(path.name + ".lock"), timeout=LOCK_TIMEOUT, mode=0o600)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise StateUnreadable(
            f"`{path}` is locked by {_read_holder(holder)}", hint="wait for that command to end, then try again"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with suppress(OSError):
            holder.write_text(f"process {os.getpid()} (`{hints.command('pi', *sys.argv[1:3])}`)", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _read_holder(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8")
    except OSError:
        return "another process"


def _unwritable(path: Path, error: OSError) -> StateUnreadable:
    return StateUnreadable(f"cannot write `{path}`: {error.strerror or error}", hint="nothing was changed")

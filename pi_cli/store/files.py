"""Private files that are always complete: written under another name, flushed, renamed; changed under a lock."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pi_cli import hints
from pi_cli.errors import StateUnreadable

if TYPE_CHECKING:
    import filelock

LOCK_TIMEOUT = 10.0  # seconds
# Of file systems without locks: NFS without lockd, some FUSE and overlay file systems (flock(2), fcntl(2)).
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)


def replace(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file atomically. The caller holds its lock.

    A reader sees the old text or the new one, also after a crash. The next call deletes the temporary file of a crash.
    """
    path = _target(path)
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.unlink(missing_ok=True)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
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


def require_writable(path: Path) -> None:
    """Check that a file can be replaced, before work is done whose result is to be written there; errors as then."""
    with locked(path):
        temporary = _target(path).with_name(path.name + ".new")
        try:
            temporary.touch(mode=0o600)
            temporary.unlink()
        except OSError as error:
            raise _unwritable(path, error) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file while the block runs. The kernel releases it when the process dies, even by SIGKILL.

    On a file system without locks, the lock is a file with the PID, which the next process takes over when that process
    is gone.
    """
    import filelock

    path = _target(path)
    holder = path.with_name(path.name + ".holder")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(path)
        lock.acquire()
    except filelock.Timeout as error:
        raise StateUnreadable(
            f"`{path}` is locked by {_read_holder(holder)}", hint="wait for that command to end, then try again"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        _write_holder(holder)
        yield
    finally:
        with suppress(OSError):
            holder.unlink()
        lock.release()


def _target(path: Path) -> Path:
    """Follow the links of users who keep their files elsewhere, so that all of them meet at one file and one lock."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # links that lead in a circle
        raise StateUnreadable(f"cannot follow the link `{path}`: {error}", hint="nothing was changed") from error


def _lock(path: Path) -> "filelock.BaseFileLock":
    import filelock

    native = path.with_name(path.name + ".lock")
    if _has_locks(native):
        return filelock.FileLock(native, timeout=LOCK_TIMEOUT, mode=0o600)
    return filelock.SoftFileLock(path.with_name(path.name + ".soft-lock"), timeout=LOCK_TIMEOUT, mode=0o600)


def _has_locks(file: Path) -> bool:
    """Return whether the file system of a file, which is made, has locks."""
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:  # a process holds it
        return True
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise
    finally:
        os.close(descriptor)
    return True


def _write_holder(holder: Path) -> None:
    """Write down which process holds the lock. That is optional; a link in its place is not followed."""
    text = f"process {os.getpid()} (`{hints.command('pi', *sys.argv[1:3])}`)"
    with suppress(OSError, UnicodeError):
        descriptor = os.open(holder, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def _read_holder(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8")
    except OSError:
        return "another process"


def _unwritable(path: Path, error: OSError) -> StateUnreadable:
    return StateUnreadable(f"cannot write `{path}`: {error.strerror or error}", hint="nothing was changed")

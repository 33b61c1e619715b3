"""Files that a running process holds a lock on: other commands see by it that the process is still there."""

import fcntl
from contextlib import suppress
from typing import IO


def is_released(file: IO[str]) -> bool:
    """Return whether no process holds the lock of an open file; a `kill -9` releases it too."""
    with suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False

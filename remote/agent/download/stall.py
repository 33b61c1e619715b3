"""Detect a stalled download, and the lock that it waits for."""

import contextlib
import errno
import fcntl
import os
import time
from typing import Optional, Set

from agent import processes, records
from agent.download import cache
from agent.download.cache import Cache
from agent.download.traffic import Traffic
from agent.warm_up import WARM

LOOK = 1.0  # seconds between two checks of the network
ENOUGH = 10**6  # bytes received that count as progress: less may be repeated requests of hf that fail
LOCK_TIMEOUT = 5.0  # seconds without data, after which locks are checked
LOCK_LOOK = 2.0  # seconds between two checks of locks


class Silence:
    """How long the processes with the marker `uid` have received no data, neither on the disk nor from the network."""

    def __init__(self, cache: Cache, uid: str) -> None:
        self._cache = cache
        self._uid = uid
        self._traffic = Traffic()
        self._since = self._looked = time.monotonic()
        self._done = -1
        self._received = 0
        self._lock: Optional[str] = None
        self._lock_looked = 0.0

    def seconds(self, done: int) -> float:
        """Return the seconds without data; `done` is the number of bytes in the cache now."""
        now = time.monotonic()
        if done != self._done:
            self._since, self._done = now, done
        if now - self._looked >= LOOK:
            self._looked = now
            ours = processes.marked().get(self._uid, [])
            received = self._traffic.look([each for each in ours if not processes.variable(each.pid, WARM)])
            if received - self._received >= ENOUGH:
                self._since, self._received = now, received
        return now - self._since

    def reset(self) -> None:
        """Count from now on, since the reason is known."""
        self._since = time.monotonic()

    def lock(self) -> Optional[str]:
        """Return the lock file that hf waits for, if another process holds it."""
        if time.monotonic() - self._lock_looked > LOCK_LOOK:
            self._lock_looked = time.monotonic()
            ours: Set[str] = set()
            for process in processes.marked().get(self._uid, []):
                with contextlib.suppress(OSError):
                    ours |= cache.files_of(process.pid)
            self._lock = next((path for path in self._cache.locks() if path not in ours and is_held(path)), None)
        return self._lock


def is_held(path: str) -> bool:
    """Return whether a file is locked; on a file system without locks, its existence counts as one."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES, *records.NO_LOCKS)
    finally:
        os.close(descriptor)
    return False


def holder_of(path: str) -> Optional[int]:
    """Return the PID of a process that has a file open; None if it is on another machine or cannot be inspected."""
    for pid in processes.all_pids():
        with contextlib.suppress(OSError):
            if path in cache.files_of(pid):
                return pid
    return None

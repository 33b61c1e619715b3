"""A lease on a model in a shared cache: one start downloads it, and the others wait.

The holder of the lease rewrites its file every two seconds. Clocks of different machines are never compared: a waiting
start takes over the lease when the file has not changed for 20 seconds by its own clock. If two starts take it at once,
the one that then reads the other's uid in the file gives up. The lease only avoids a second download; hf itself makes
sure that two downloads do no harm.
"""

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Dict, Optional, Tuple

from agent import home, processes, wire

if TYPE_CHECKING:
    from agent import protocol

MAX_LEASE = 4096  # bytes
BEAT = 2.0  # seconds between two updates by the holder
ABANDONED = 20.0  # seconds without an update
SETTLING = 1.0  # seconds after taking over a lease, before checking whether another start did so too


class Lease:
    """The lease on one model, from the view of one start; `pod` is the user's name for this pod."""

    def __init__(self, path: str, uid: str, pod: str, *, abandoned: float = ABANDONED) -> None:
        self._path = path
        self._abandoned = abandoned
        self._ours = {"uid": uid, "pod": pod or socket.gethostname(), "pid": os.getpid(), "where": where()}
        self._beats = 0
        self._last_beat = 0.0
        self._seen = b""
        self._seen_at = 0.0

    def take(self) -> bool:
        """Return whether this start has the lease now. If the lease file cannot be written, there is no lease to wait
        for."""
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if not os.access(self._path, os.R_OK | os.W_OK):
                return True  # the file of another user, which cannot be read
            return self._is_abandoned() and self._take_over()
        except OSError:
            return True
        os.close(descriptor)
        self._beat()
        return True

    def holder(self) -> "Tuple[Optional[str], protocol.Downloader]":
        """Return the uid of the start that has the lease, and where it runs, if the file can be read."""
        lease: Dict[str, object] = {}
        with contextlib.suppress(ValueError, TypeError):
            lease = dict(json.loads(self._seen))
        uid, pod = lease.get("uid"), lease.get("pod")
        by: "protocol.Downloader" = {
            "is_here": lease.get("where") == where(),
            "pod": pod if isinstance(pod, str) and pod else None,
        }
        return uid if isinstance(uid, str) else None, by

    def _is_ours(self) -> bool:
        return self.holder()[0] == self._ours["uid"]

    def keep(self) -> bool:
        """Update the lease when that is due; return whether this start still has it."""
        if time.monotonic() - self._last_beat < BEAT:
            return True
        self._look()
        if self._seen and not self._is_ours():
            return False
        self._beat()
        return True

    def release(self) -> None:
        self._look()
        if self._is_ours():
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _look(self) -> None:
        """Read the file; a missing file counts as empty."""
        data = b""
        with contextlib.suppress(OSError):
            data = home.read_regular(self._path, MAX_LEASE)
        if data != self._seen or not self._seen_at:
            self._seen, self._seen_at = data, time.monotonic()

    def _is_abandoned(self) -> bool:
        self._look()
        with contextlib.suppress(ValueError, TypeError, KeyError):
            lease = json.loads(self._seen)
            if lease["where"] == where() and not processes.start_time(int(lease["pid"])):
                return True
        return time.monotonic() - self._seen_at > self._abandoned

    def _take_over(self) -> bool:
        self._beat()
        if wire.stdin_ended(SETTLING):
            self.release()
            return False
        self._look()
        return self._is_ours()

    def _beat(self) -> None:
        self._beats += 1
        self._last_beat = time.monotonic()
        with contextlib.suppress(OSError):  # on a full disk, the other starts take over, which does no harm
            temporary = "%s.%s" % (self._path, self._ours["uid"])
            with open(temporary, "w") as file:
                json.dump(dict(self._ours, beat=self._beats), file)
            os.replace(temporary, self._path)


def where() -> str:
    """Return an identifier that is the same for starts that see the same processes."""
    with contextlib.suppress(OSError):
        return home.boot_id() + " " + os.readlink("/proc/self/ns/pid")
    return home.boot_id() + " " + socket.gethostname()

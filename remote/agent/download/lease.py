"""Who downloads a model into a cache that several use: one does, and the others wait.

The holder of the lease writes its file anew every two seconds. Clocks of several machines are never compared: who waits
takes the lease over when the file has not changed for 20 seconds by its own clock. Should two have it for a moment, the
one that finds the other's name in it gives way. All of this is to download once; that nothing breaks when it is done
twice is up to hf.
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

MOST_LEASE = 4096  # bytes
BEAT = 2.0  # seconds between two signs of life
ABANDONED = 20.0  # seconds without one
SETTLING = 1.0  # seconds after which who took a lease over looks whether somebody else did, too


class Lease:
    """The lease on one model, as one start sees it; `pod` is what pi calls this pod."""

    def __init__(self, path: str, uid: str, pod: str, *, abandoned: float = ABANDONED) -> None:
        self._path = path
        self._abandoned = abandoned
        self._ours = {"uid": uid, "pod": pod or socket.gethostname(), "pid": os.getpid(), "where": where()}
        self._beats = 0
        self._last_beat = 0.0
        self._seen = b""
        self._seen_at = 0.0

    def take(self) -> bool:
        """Try to get the lease. Where no such file can be kept there is nothing to wait for either."""
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if not os.access(self._path, os.R_OK | os.W_OK):
                return True  # another user's, of whom we can learn nothing
            return self._is_abandoned() and self._take_over()
        except OSError:
            return True
        os.close(descriptor)
        self._beat()
        return True

    def holder(self) -> "Tuple[Optional[str], protocol.Holder]":
        """Return the uid of the start that has the lease, and where that runs, as far as the file can be read."""
        lease: Dict[str, object] = {}
        with contextlib.suppress(ValueError, TypeError):
            lease = dict(json.loads(self._seen))
        uid, pod = lease.get("uid"), lease.get("pod")
        by: "protocol.Holder" = {
            "is_here": lease.get("where") == where(),
            "pod": pod if isinstance(pod, str) and pod else None,
        }
        return uid if isinstance(uid, str) else None, by

    def _is_ours(self) -> bool:
        return self.holder()[0] == self._ours["uid"]

    def keep(self) -> bool:
        """Show that we are alive, when it is time to; tell whether the lease is still ours."""
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
        """Read what the file says; it says nothing when it is gone."""
        said = b""
        with contextlib.suppress(OSError):
            said = home.read_regular(self._path, MOST_LEASE)
        if said != self._seen or not self._seen_at:
            self._seen, self._seen_at = said, time.monotonic()

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
        with contextlib.suppress(OSError):  # on a full disk the others think that we are gone, which does no harm
            temporary = "%s.%s" % (self._path, self._ours["uid"])
            with open(temporary, "w") as file:
                json.dump(dict(self._ours, beat=self._beats), file)
            os.replace(temporary, self._path)


def where() -> str:
    """Return what those have in common who see the same processes."""
    with contextlib.suppress(OSError):
        return home.boot_id() + " " + os.readlink("/proc/self/ns/pid")
    return home.boot_id() + " " + socket.gethostname()

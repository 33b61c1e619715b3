"""The disk under a folder: its type and its free space.

A system call on a network file system may never return. It is made in a thread, which is abandoned after a time-out.
"""

import os
import threading
from typing import TYPE_CHECKING, List

from agent import home, mounts

if TYPE_CHECKING:
    from agent import protocol

TIMEOUT = 5.0  # seconds


def disk(path: str) -> "protocol.Disk":
    """Return the disk under a folder; `trouble` is why it is unknown. A dead network share never answers."""
    results: "List[protocol.Disk]" = []
    thread = threading.Thread(target=lambda: results.append(measure(path)), daemon=True)
    thread.start()
    if home.join(thread, TIMEOUT):
        return results[0]
    return unknown(path, "did not answer within %.0f s" % TIMEOUT)


def unknown(path: str, trouble: str) -> "protocol.Disk":
    return {"path": path, "total": None, "free": None, "is_mount": False, "kind": "", "trouble": trouble}


def measure(path: str) -> "protocol.Disk":
    try:
        numbers = os.statvfs(path)
    except OSError as error:
        return unknown(path, os.strerror(error.errno or 0))
    point, source, kind = mounts.mount_of(os.path.realpath(path))
    # A pool reports the size of the whole cluster, never that of the user's share.
    is_pool = source.startswith("mfs#") or mounts.is_remote_fuse(kind)
    return {
        "path": path,
        "total": None if is_pool else numbers.f_frsize * numbers.f_blocks,
        "free": None if is_pool else numbers.f_frsize * numbers.f_bavail,
        "is_mount": point != "/",
        "kind": kind,
        "trouble": None,
    }


def existing(path: str) -> str:
    """Return a path, or the nearest folder above it that exists."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path

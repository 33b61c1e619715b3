"""The file system under a folder: its type, its free space, and whether other machines use it too.

A system call on a network file system may never return. It is made in a thread, which is abandoned after a time-out.
"""

import os
import re
import threading
from typing import TYPE_CHECKING, List, Tuple

from agent import home

if TYPE_CHECKING:
    from agent import protocol

TIMEOUT = 5.0  # seconds
LOCAL_FUSE = ("fuseblk", "fuse.fuse-overlayfs")
# Type names in /proc/mounts. FUSE file systems that are not local count too.
NETWORKS = ("nfs", "nfs4", "lustre", "cifs", "smb3", "ceph", "glusterfs", "9p", "virtiofs", "beegfs", "gpfs", "wekafs")


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
    point, source, kind = mount_of(os.path.realpath(path))
    # A pool reports the size of the whole cluster, never that of the user's share.
    is_pool = source.startswith("mfs#") or is_remote_fuse(kind)
    return {
        "path": path,
        "total": None if is_pool else numbers.f_frsize * numbers.f_blocks,
        "free": None if is_pool else numbers.f_frsize * numbers.f_bavail,
        "is_mount": point != "/",
        "kind": kind,
        "trouble": None,
    }


def mount_of(path: str) -> Tuple[str, str, str]:
    """Return (mount point, source, type) of the file system of a path; see proc(5) and fstab(5)."""
    mount = ("/", "", "")
    for line in home.read_bytes("/proc/self/mounts").decode("utf-8", "surrogateescape").splitlines():
        fields = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), field) for field in line.split(" ")]
        source, point, kind = fields[:3]
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(mount[0]):
            mount = (point, source, kind)
    return mount


def is_remote_fuse(kind: str) -> bool:
    return kind.startswith("fuse") and kind not in LOCAL_FUSE


def is_network(kind: str) -> bool:
    """Return whether other machines may use a file system of this type too."""
    return kind in NETWORKS or is_remote_fuse(kind)


def existing(path: str) -> str:
    """Return a path, or the nearest folder above it that exists."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path

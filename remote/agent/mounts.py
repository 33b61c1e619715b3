"""The mount table: which file system a path is on, and whether other machines may use it too."""

import re
from typing import Tuple

LOCAL_FUSE = ("fuseblk", "fuse.fuse-overlayfs")
# Type names in /proc/mounts. FUSE file systems that are not local count too.
NETWORKS = ("nfs", "nfs4", "lustre", "cifs", "smb3", "ceph", "glusterfs", "9p", "virtiofs", "beegfs", "gpfs", "wekafs")


def mount_of(path: str, table: str = "/proc/self/mounts") -> Tuple[str, str, str]:
    """Return (mount point, source, type) of the file system of a path without links; see proc(5) and fstab(5)."""
    mount = ("/", "", "")
    with open(table, "rb") as file:
        lines = file.read().decode("utf-8", "surrogateescape").splitlines()
    for line in lines:
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

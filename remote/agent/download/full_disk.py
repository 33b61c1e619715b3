"""Which disk is full when a download says so: free bytes and inodes of each that hf writes to, and whether it can.

The models' own disk may have 75 GB free all the same: a quota of this user, no inodes, or hf's other folders, which may
be on other disks.
"""

import contextlib
import errno
import os
import threading
from typing import TYPE_CHECKING, List, Mapping, Optional, Tuple

from agent import disks, home, variables

if TYPE_CHECKING:
    from agent import protocol

TIMEOUT = 5.0  # seconds for one folder, which may be on a dead share
TRIAL = 1 << 24  # bytes that are written: a disk without them is full
FULL = (errno.ENOSPC, errno.EDQUOT)


def looked(hub: str, settings: Mapping[str, str]) -> "List[protocol.LookedDisk]":
    """Return what was found in each folder that hf writes to; those on one disk only once, the models' first."""
    xet = settings.get("HF_XET_CACHE") or os.path.join(variables.hf_home(settings), "xet")
    temporary = settings.get("TMPDIR") or "/tmp"
    found: "List[protocol.LookedDisk]" = []
    devices: List[Tuple[int, int]] = []
    places: "List[Tuple[protocol.WrittenPlace, str]]" = [("models", hub), ("xet", xet), ("temporary", temporary)]
    for place, path in places:
        folder = disks.existing(os.path.expanduser(path))
        one, device = look(place, folder)
        if device is None or device not in devices:
            found.append(one)
            devices += [device] if device else []
    return found


def look(place: "protocol.WrittenPlace", folder: str) -> "Tuple[protocol.LookedDisk, Optional[Tuple[int, int]]]":
    """Look at one folder, in a thread that is abandoned if its file system does not answer."""
    one: "protocol.LookedDisk" = {"place": place, "path": folder, "free": None, "inodes": None, "trouble": None}
    device: List[Tuple[int, int]] = []

    def measure() -> None:
        try:
            numbers = os.statvfs(folder)
            one["free"] = disks.measure(folder)["free"]
            one["inodes"] = numbers.f_favail if numbers.f_files else None  # some file systems count none
            device.append((os.stat(folder).st_dev, 0))
            write_trial(folder)
        except OSError as error:
            one["trouble"] = os.strerror(error.errno or 0)

    thread = threading.Thread(target=measure, daemon=True)
    thread.start()
    if not home.join(thread, TIMEOUT):
        return {"place": place, "path": folder, "free": None, "inodes": None, "trouble": "did not answer"}, None
    return one, device[0] if device else None


def write_trial(folder: str) -> None:
    """Write a file and delete it. Raises `OSError` if the disk, or this user's share of it, is full."""
    path = os.path.join(folder, ".pi-trial.%d" % os.getpid())
    try:
        with os.fdopen(home.create(path), "wb", buffering=0) as file:
            left = TRIAL
            while left:  # the write that reaches the end of a disk is only shorter, the next one fails
                left -= file.write(bytes(left)) or 0
    except OSError as error:
        if error.errno in FULL:
            raise
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)

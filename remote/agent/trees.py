"""Measure and delete folders with all that is in them: links are deleted, never followed, other file systems stay."""

import contextlib
import errno
import os
import stat
from typing import List, Optional, Set, Tuple

from agent import wire


def measure(path: str, seen: "Set[Tuple[int, int]]") -> "Tuple[int, int]":
    """Return the bytes and the number of files below a path. A file with several names counts once."""
    size, files, pending = 0, 0, [path]
    device = os.lstat(path).st_dev
    while pending:
        wire.beat()
        each = pending.pop()
        status = lstat(each)
        if status is None or (status.st_ino, status.st_dev) in seen or status.st_dev != device:
            continue
        seen.add((status.st_ino, status.st_dev))
        if stat.S_ISDIR(status.st_mode):
            pending += [os.path.join(each, name) for name in list_folder(each)]
        else:
            size, files = size + status.st_blocks * 512, files + 1
    return size, files


def lstat(path: str) -> Optional[os.stat_result]:
    try:
        return os.lstat(path)
    except OSError:
        return None


class Deletion:
    """Deletes trees, and reports the bytes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.entries = 0

    def delete(self, path: str) -> None:
        """Delete a file, a link, or a folder with all that is in it on the same file system."""
        status = lstat(path)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(path)
            self.count(status)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self.clear(descriptor, os.fstat(descriptor).st_dev)
        finally:
            os.close(descriptor)
        remove_folder(path)

    def clear(self, folder: int, device: int) -> None:
        """Delete what is in an open folder. Each step goes by the open folder, so that no link can lead elsewhere."""
        for name in os.listdir(folder):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=folder)
                self.count(status)
            elif status.st_dev == device:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                try:
                    self.clear(inner, device)
                finally:
                    os.close(inner)
                remove_folder(name, folder)

    def count(self, status: os.stat_result) -> None:
        """Report the progress now and then; exit if pi has disconnected."""
        self.done += status.st_blocks * 512 if status.st_nlink == 1 else 0
        self.entries += 1
        wire.beat()
        if self.entries % 500 == 0:
            if wire.stdin_ended(0):
                wire.leave()
            wire.emit({"event": "progress", "done": min(self.done, self.total), "total": self.total, "by": None})


def remove_folder(path: str, folder: Optional[int] = None) -> None:
    """Remove an empty folder; one in which another file system is mounted stays."""
    try:
        os.rmdir(path, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY):
            raise


def list_folder(path: str) -> List[str]:
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []

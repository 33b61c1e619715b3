"""A folder, read-only, as a FUSE file system that belongs to a cluster: run by a pod's own Python, as root.

    python3 fuse_server.py FOLDER MOUNT_POINT TYPE [hanging | dead]

It says that nothing is free, which is not true of our share of it, as with any pool. `hanging` never answers, and
`dead` has no process left to answer. The protocol is that of linux/fuse.h, as far as reading files needs it.
"""

import ctypes
import errno
import os
import signal
import struct
import sys
from pathlib import Path

INIT, LOOKUP, FORGET, GETATTR, READLINK, OPEN, READ, STATFS, RELEASE = 26, 1, 2, 3, 5, 14, 15, 17, 18
FLUSH, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, BATCH_FORGET, DESTROY = 25, 27, 28, 29, 36, 42, 38
WRITING = {4, 6, 8, 9, 10, 11, 12, 13, 16, 35, 43, 45}  # SETATTR, SYMLINK, MKNOD, MKDIR, UNLINK, … RENAME2
SILENT = {FORGET, BATCH_FORGET, INTERRUPT}
READ_ONLY = 1
LONGEST = 1 << 17  # bytes read at once


def main() -> None:
    folder, point, kind, *how = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"mfs#master:9421", point.encode(), kind.encode(), READ_ONLY, options.encode()):
        raise OSError(ctypes.get_errno(), "cannot mount", point)
    if how == ["dead"]:
        return
    if how == ["hanging"]:
        signal.pause()
    serve(device, Files(Path(folder)))


class Files:
    """The files of a folder by the numbers that the kernel knows them by."""

    def __init__(self, folder: Path) -> None:
        self._paths = {1: folder}

    def answer(self, opcode: int, node: int, body: bytes) -> bytes:
        """Return what the kernel wants to know. Raises `OSError`."""
        if opcode == INIT:
            return struct.pack("=IIIIHHIIHHI28x", 7, 31, LONGEST, 0, 16, 12, LONGEST, 1, 32, 0, 0)
        path = self._paths[node]
        if opcode == LOOKUP:
            path /= os.fsdecode(body.rstrip(b"\0"))
            about = path.lstat()
            self._paths[about.st_ino] = path
            return struct.pack("=QQQQII", about.st_ino, 0, 1, 1, 0, 0) + attributes(about)
        if opcode == GETATTR:
            return struct.pack("=QII", 1, 0, 0) + attributes(path.lstat())
        if opcode == READLINK:
            return os.fsencode(path.readlink())
        if opcode in (OPEN, OPENDIR):
            return struct.pack("=QII", 0, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            with path.open("rb") as file:
                return os.pread(file.fileno(), size, offset)
        if opcode == READDIR:
            _, offset, size = struct.unpack_from("=QQI", body)
            return listing(path, offset, size)
        if opcode == STATFS:
            return struct.pack("=QQQQQIIII24x", 10**11, 0, 0, 10**6, 10**6, 4096, 255, 4096, 0)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
            return b""
        raise OSError(errno.EROFS if opcode in WRITING else errno.ENOSYS, "not for us")


def attributes(about: os.stat_result) -> bytes:
    times = int(about.st_atime), int(about.st_mtime), int(about.st_ctime)
    numbers = struct.pack("=QQQQQQ", about.st_ino, about.st_size, (about.st_size + 511) // 512, *times)
    return numbers + struct.pack("=IIIIIIIIII", 0, 0, 0, about.st_mode, about.st_nlink, 0, 0, 0, 4096, 0)


def listing(folder: Path, offset: int, size: int) -> bytes:
    entries = b""
    names = sorted(path.name for path in folder.iterdir())
    for number, name in enumerate(names[offset:], start=offset + 1):
        text = os.fsencode(name)
        entry = struct.pack("=QQII", 2, number, len(text), 0) + text
        entry += bytes(-len(entry) % 8)
        if len(entries) + len(entry) > size:
            break
        entries += entry
    return entries


def serve(device: int, files: Files) -> None:
    """Answer the kernel until the file system is unmounted."""
    while True:
        try:
            request = os.read(device, LONGEST + 4096)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return
            raise
        _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
        if opcode in SILENT:
            continue
        try:
            said, code = files.answer(opcode, node, request[40:]), 0
        except OSError as error:
            said, code = b"", -(error.errno or errno.EIO)
        os.write(device, struct.pack("=IiQ", 16 + len(said), code, unique) + said)


if __name__ == "__main__":
    main()

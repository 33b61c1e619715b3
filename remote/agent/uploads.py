"""Store files of the user's machine in `~/.pi/uploads/DIGEST`: what vLLM's arguments name and only that machine has.

A folder is named by its content, so a start with the same files uploads nothing. It appears by one rename once all of
it is there. If pi disconnects before that, nothing is left.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING, Iterator, List

from agent import home, wire

if TYPE_CHECKING:
    from agent import protocol

FOLDER = os.path.join(home.PI, "uploads")
UNFINISHED = ".new."
CHUNK = 1 << 14  # bytes read at once: a slow link has to deliver one between two beats
DIGEST = re.compile(r"[0-9a-f]{32}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def store(request: "protocol.StoreRequest") -> "protocol.StoreResult":
    """Say whether files are stored; if pi `sends` them, read them from stdin first, one after the other."""
    digest, files = request["digest"], request["files"]
    if not DIGEST.fullmatch(digest) or not all(NAME.fullmatch(file["name"]) for file in files):
        raise ValueError("a name of an upload")
    folder = os.path.join(FOLDER, digest)
    if request["sends"] and not is_complete(folder, files):
        receive(folder, digest, files)
    return {"folder": folder, "is_stored": is_complete(folder, files)}


def is_complete(folder: str, files: "List[protocol.UploadedFile]") -> bool:
    try:
        return all(os.path.getsize(os.path.join(folder, file["name"])) == file["size"] for file in files)
    except OSError:
        return False


def receive(folder: str, digest: str, files: "List[protocol.UploadedFile]") -> None:
    """Write the files that follow the request. Raises `OSError`; exits if pi disconnects."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    delete_unfinished()
    total = sum(file["size"] for file in files)
    require_space(total)
    place = os.path.join(FOLDER, "%s%s.%d" % (UNFINISHED, digest, os.getpid()))
    os.mkdir(place, 0o700)
    try:
        with locked(place):
            checksum, done = hashlib.sha256(), 0
            for file in files:
                checksum.update(b"%d %s %d\n" % (len(file["name"]), file["name"].encode(), file["size"]))
                with os.fdopen(home.create(os.path.join(place, file["name"])), "wb") as copy:
                    for chunk in incoming(file["size"]):
                        checksum.update(chunk)
                        copy.write(chunk)
                        done += len(chunk)
                        if wire.beats.are_due():
                            wire.emit({"event": "progress", "done": done, "total": total, "by": None})
            if checksum.hexdigest()[: len(digest)] != digest:
                raise OSError(errno.EIO, "the files changed while they were uploaded", folder)
            shutil.rmtree(folder, ignore_errors=True)  # an upload of which a file was deleted
            with contextlib.suppress(OSError):  # another start has stored the same files at this moment
                os.rename(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def incoming(size: int) -> "Iterator[bytes]":
    """Yield this many bytes from stdin. Raises `OSError` if it ends before that."""
    left = size
    while left:
        chunk = sys.stdin.buffer.read(min(left, CHUNK))
        if not chunk:
            raise OSError(errno.EPIPE, "the upload was not completed", FOLDER)
        left -= len(chunk)
        yield chunk


def require_space(size: int) -> None:
    disk = os.statvfs(FOLDER)
    if disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), FOLDER)


@contextlib.contextmanager
def locked(place: str) -> "Iterator[None]":
    """Hold a lock on a folder: without one, it was left behind by an agent that was killed."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def delete_unfinished() -> None:
    """Delete what killed agents have left; where locks do not work, it stays."""
    for name in os.listdir(FOLDER):
        place = os.path.join(FOLDER, name)
        if not name.startswith(UNFINISHED):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place)
            finally:
                os.close(descriptor)

"""The pod itself: paths, environment, programs, clock and files."""

import contextlib
import os
import select
import stat
import time
from typing import TYPE_CHECKING, Callable, Dict, List, Tuple

from agent import wire
from agent.wire import Refused

if TYPE_CHECKING:
    import threading

HOME = os.path.expanduser("~")
PI = os.path.join(HOME, ".pi")
TICK = 0.2  # seconds between two checks
NOBODY = 65534  # the owner that a share gives to files of a user that it does not know
MAX_OUTPUT = 1 << 20  # bytes of a program's output


def require_own_folder() -> None:
    """Refuse to read or write in a ~/.pi of another user, whose records and scripts it holds.

    On a share with root_squash, root's files belong to another uid. That is accepted if a new file of ours does too,
    and only its owner may write to the folder.
    """
    try:
        status = os.stat(PI)
    except OSError:
        return  # it is missing, or what is wrong with it is said when it is written to
    if status.st_uid in (os.geteuid(), 0):
        return
    if os.geteuid() == 0 and status.st_uid == NOBODY and not status.st_mode & 0o022:
        trial = os.path.join(PI, ".owner.%d" % os.getpid())
        with contextlib.suppress(OSError):
            with os.fdopen(create(trial), "wb") as file:
                owner = os.fstat(file.fileno()).st_uid
            os.unlink(trial)
            if owner == NOBODY:
                return
    raise not_ours(PI, status.st_uid)


def not_ours(path: str, owner: int) -> Refused:
    import pwd

    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = "uid %d" % owner
    return Refused({"code": "not-ours", "path": os.path.realpath(path), "name": name})


def find_program(name: str, settings: Dict[str, str]) -> str:
    import shutil

    program = shutil.which(name, path=settings["PATH"])
    if not program:
        raise Refused({"code": "not-set-up", "program": name})
    return program


def boot_id() -> str:
    try:
        return read_bytes("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
    except OSError:
        return ""


def uptime() -> float:
    """Return seconds since boot, including suspend: unlike the time of day, it never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_file(path: str, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str, content: bytes) -> None:
    """Replace a file in one step."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = "%s.%d.new" % (path, os.getpid())
    try:
        with os.fdopen(create(temporary), "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def read_regular(path: str, size: int) -> bytes:
    """Read at most `size` bytes of a file that another user may have created. Raises `OSError`."""
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read(size)


def create(path: str, flags: int = 0) -> int:
    """Open a new file for writing, in place of what is there. A link is replaced, not followed: another user may have
    planted it. Raises `OSError`, also if that happens at this moment."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)


def open_regular(path: str) -> int:
    """Open a file for reading. Raises `OSError`, also for a pipe or a device, which could block or never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", path)
    return descriptor


def read_until(descriptor: int, deadline: float) -> Tuple[bytes, bool]:
    """Read until the end or the deadline (monotonic clock); return the data, and whether the end was reached."""
    output = b""
    while len(output) < MAX_OUTPUT:
        wire.beat()
        left = max(0.0, deadline - time.monotonic())
        if select.select([descriptor], [], [], min(left, 1.0))[0]:
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return output, True
            output += chunk
        elif not left:
            break
    return output, False


def files_in(folder: str, ending: str) -> List[str]:
    """Return the paths of the files with an ending in a folder, in order; none if it cannot be read.

    Names that begin with a dot are left out, as by `glob`, which takes longer to load.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [os.path.join(folder, name) for name in sorted(names) if name.endswith(ending) and name[:1] != "."]


def join(thread: "threading.Thread", seconds: float) -> bool:
    """Wait at most this long for a thread; return whether it has ended."""
    deadline = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < deadline:
        wire.beat()
        thread.join(max(0.0, min(1.0, deadline - time.monotonic())))
    return not thread.is_alive()


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        wire.beat()
        time.sleep(0.05)
    return True

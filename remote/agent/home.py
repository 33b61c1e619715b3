"""The pod itself: where things lie, its environment and programs, its clock and files."""

import contextlib
import os
import select
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING, Callable, Dict, Tuple

from agent import wire
from agent.wire import Refused

if TYPE_CHECKING:
    import threading

HOME = os.path.expanduser("~")
PI = os.path.join(HOME, ".pi")
LOGS = os.path.join(HOME, ".vllm_logs")
TICK = 0.2  # seconds between two looks
MOST_OUTPUT = 1 << 20  # bytes of what a program prints
ENVIRONMENT_TIMEOUT = 10.0  # seconds for ~/.pi/env, which setup writes and people edit


def pod_environment() -> Dict[str, str]:
    """Return our environment with what setup wrote to ~/.pi/env, as bash reads it."""
    # What BASH_ENV prints comes before the first zero.
    script = 'set -a; [ -f "$HOME/.pi/env" ] && . "$HOME/.pi/env"; printf "\\0"; exec env -0'
    command = ["bash", "--norc", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True) as asked:
        assert asked.stdout is not None
        output, is_whole = read_until(asked.stdout.fileno(), time.monotonic() + ENVIRONMENT_TIMEOUT)
        if not is_whole:
            os.killpg(asked.pid, signal.SIGKILL)
            raise Refused({"code": "environment", "seconds": ENVIRONMENT_TIMEOUT})
    entries = output.decode("utf-8", "surrogateescape").split("\0")[1:]
    settings = {name: value for name, _, value in (entry.partition("=") for entry in entries) if name}
    settings.pop("PYTHONHOME", None)  # no virtual environment's Python starts with it
    # Where ~/venv leads to now: a setup that makes it lead elsewhere must not move what runs from there.
    programs = os.path.join(os.path.realpath(os.path.join(HOME, "venv")), "bin")
    settings["PATH"] = os.pathsep.join([programs, settings.get("PATH", os.defpath)])
    return settings


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
    """Return seconds since boot, sleep included: unlike the clock it never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_file(path: str, text: str) -> None:
    """Replace a file in one step."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = "%s.%d.new" % (path, os.getpid())
    try:
        with open(temporary, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def read_regular(path: str, most: int) -> bytes:
    """Read a file that another user may have put there: so many bytes at most. Raises `OSError`."""
    with os.fdopen(open_regular(path), "rb") as file:
        return file.read(most)


def open_regular(path: str) -> int:
    """Open a file to read it, and refuse (`OSError`) what could block us for ever or never end: a pipe, a device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(22, "not a regular file", path)
    return descriptor


def read_until(descriptor: int, deadline: float) -> Tuple[bytes, bool]:
    """Read to the end, or until a moment of the monotonic clock; return whether the end was reached."""
    output = b""
    while len(output) < MOST_OUTPUT:
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


def join(thread: "threading.Thread", seconds: float) -> bool:
    """Wait for a thread that long at most; return whether it has ended."""
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

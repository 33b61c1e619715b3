"""The pod itself: where things lie, its environment and programs, its clock and files."""

import os
import subprocess
import time
from typing import Callable, Dict

from agent.wire import Refused

HOME = os.path.expanduser("~")
PI = os.path.join(HOME, ".pi")
LOGS = os.path.join(HOME, ".vllm_logs")
TICK = 0.2  # seconds between two looks


def pod_environment() -> Dict[str, str]:
    """Return our environment with what setup wrote to ~/.pi/env, as bash reads it."""
    # What BASH_ENV prints comes before the first zero.
    script = 'set -a; [ -r "$HOME/.pi/env" ] && . "$HOME/.pi/env"; printf "\\0"; exec env -0'
    told = subprocess.run(
        ["bash", "--norc", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
    )
    entries = told.stdout.decode("utf-8", "surrogateescape").split("\0")[1:]
    settings = {name: value for name, _, value in (entry.partition("=") for entry in entries) if name}
    settings.pop("PYTHONHOME", None)  # no virtual environment's Python starts with it
    # Where ~/venv leads to now: a setup that makes it lead elsewhere must not move who runs from there.
    programs = os.path.join(os.path.realpath(os.path.join(HOME, "venv")), "bin")
    settings["PATH"] = os.pathsep.join([programs, settings.get("PATH", os.defpath)])
    return settings


def find_program(name: str, settings: Dict[str, str]) -> str:
    import shutil

    found = shutil.which(name, path=settings["PATH"])
    if not found:
        raise Refused("not-set-up", "`%s` is not installed on the pod" % name)
    return found


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
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True

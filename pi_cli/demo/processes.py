"""Find and stop every process with a marker in its environment, even if it was re-parented.

The marker is inherited. Unlike process groups and parents, it survives `setsid` and re-parenting.
"""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process; zombies are never included."""

    pid: int
    command: tuple[str, ...]
    environ: dict[str, str]


def marked(name: str, value: str) -> list[Process]:
    """Return the processes whose environment at exec had `name=value`, sorted by PID."""
    processes = _from_proc() if (PROC / "self" / "environ").exists() else _from_ps(f"{name}={value}")
    processes = [process for process in processes if process.environ.get(name) == value]
    return sorted(processes, key=lambda process: process.pid)


def end(name: str, value: str, *, grace: float = 1.0, interval: float = 0.02) -> None:
    """Send SIGTERM to all marked processes and, after `grace` seconds, SIGKILL until none is left."""
    kill_at = time.monotonic() + grace
    terminated: set[int] = set()
    empty_scans = 0
    while empty_scans < 2:  # during exec, a process shows no environment
        processes = marked(name, value)
        empty_scans = 0 if processes else empty_scans + 1
        is_kill_due = time.monotonic() >= kill_at
        for process in processes:
            if is_kill_due:
                _signal(process.pid, signal.SIGKILL)
            elif process.pid not in terminated:
                terminated.add(process.pid)
                _signal(process.pid, signal.SIGTERM)
        time.sleep(interval)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)  # a stopped process would never see a TERM
    except ProcessLookupError:
        pass


def _from_proc() -> list[Process]:
    processes = []
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            environ = (folder / "environ").read_bytes()
            cmdline = (folder / "cmdline").read_bytes()
        except OSError:  # it has exited, or belongs to another user
            continue
        argv = os.fsdecode(cmdline).removesuffix("\0").split("\0")
        processes.append(Process(int(folder.name), tuple(argv), _variables(os.fsdecode(environ).split("\0"))))
    return processes


def _from_ps(marker: str) -> list[Process]:
    """Read the processes from `ps`, for systems without /proc (macOS).

    It prints the environment after the command line; only the `=` distinguishes the two.
    """
    listing = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    processes = []
    for line in listing.splitlines():
        pid, _, rest = line.strip().partition(" ")
        if marker in rest:
            words = rest.split()
            argv = [word for word in words if "=" not in word]
            processes.append(Process(int(pid), tuple(argv), _variables(words)))
    return processes


def _variables(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words) if value or name in words}

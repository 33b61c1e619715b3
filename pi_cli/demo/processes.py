"""Find and end every process that carries a marker in its environment, whoever its parent is by now.

The marker is inherited, and survives `setsid` and re-parenting, where process groups and parents do not.
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
    """A running process; zombies are dead and never reported."""

    pid: int
    command: tuple[str, ...]
    environ: dict[str, str]


def marked(name: str, value: str) -> list[Process]:
    """Return the processes whose environment at exec held `name=value`, by rising PID."""
    found = _from_proc() if (PROC / "self" / "environ").exists() else _from_ps(f"{name}={value}")
    return sorted((each for each in found if each.environ.get(name) == value), key=lambda each: each.pid)


def end(name: str, value: str, *, grace: float = 1.0, interval: float = 0.02) -> None:
    """Send TERM to all marked processes and, after `grace` seconds, KILL until none is left."""
    patience = time.monotonic() + grace
    asked: set[int] = set()
    looks_in_vain = 0
    while looks_in_vain < 2:  # in the middle of exec a process shows no environment
        found = marked(name, value)
        looks_in_vain = 0 if found else looks_in_vain + 1
        is_patient = time.monotonic() < patience
        for process in found:
            if not is_patient:
                _signal(process.pid, signal.SIGKILL)
            elif process.pid not in asked:
                asked.add(process.pid)
                _signal(process.pid, signal.SIGTERM)
        time.sleep(interval)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)  # a stopped process would never see a TERM
    except ProcessLookupError:
        pass


def _from_proc() -> list[Process]:
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            environ = (folder / "environ").read_bytes()
            cmdline = (folder / "cmdline").read_bytes()
        except OSError:  # gone meanwhile, or somebody else's
            continue
        words = os.fsdecode(cmdline).removesuffix("\0").split("\0")
        found.append(Process(int(folder.name), tuple(words), _variables(os.fsdecode(environ).split("\0"))))
    return found


def _from_ps(marker: str) -> list[Process]:
    """Ask `ps`, where there is no /proc (macOS).

    It prints the environment after the command line, so the two are told apart by their `=` only.
    """
    listing = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True).stdout
    found = []
    for line in listing.splitlines():
        pid, _, rest = line.strip().partition(" ")
        if marker in rest:
            words = rest.split()
            command = [word for word in words if "=" not in word]
            found.append(Process(int(pid), tuple(command), _variables(words)))
    return found


def _variables(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.partition("=") for word in words) if value or name in words}

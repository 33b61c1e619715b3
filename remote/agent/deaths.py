"""What the machine knows about the death of a model: what the kernel killed, and how much memory there was.

Counters and memory are read when the model is launched and while it starts; the kernel's log is read once it has died,
if this user may: in containers that is rare. Nothing here may fail a start, or make it wait for more than some seconds.
"""

import contextlib
import os
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING, Iterable, Iterator, List, Optional

from agent import home, machine

if TYPE_CHECKING:
    from agent import protocol

CGROUPS = machine.ROOT + "/sys/fs/cgroup"
PROC = machine.ROOT + "/proc"
UNLIMITED = 1 << 60  # bytes: cgroups of version 1 write a number near 2**63 for no limit
PATIENCE = 2.0  # seconds for one program that shows the kernel's log
MAX_LOG = 1 << 22  # bytes of it
MAX_LINES: "protocol.MaxKernelLines" = 5
MAX_LINE = 300  # characters
MARGIN = 5.0  # seconds between the kernel's clock and ours
PROGRAMS = (["dmesg"], ["journalctl", "-k", "-b", "--no-pager", "-o", "short-monotonic", "-n", "2000"])
STAMP = re.compile(r"^(?:<\d+>)?\[ *(\d+\.\d+)\] (?:\S+ kernel: )?(.*)")
# The kernel's words for a process that it killed or that crashed, and NVIDIA's for a GPU that failed.
TELLING = re.compile(
    r"(?:Out of memory|Memory cgroup out of memory): Kill|oom-kill:|oom_reaper: reaped"
    r"|: segfault at |traps: .* (?:trap|general protection)|NVRM: Xid|NVRM: GPU .*fallen off"
)


class Watch:
    """Watches the memory of this machine from the launch of a model on."""

    def __init__(self) -> None:
        self._folder = cgroup()
        self._began = time.clock_gettime(time.CLOCK_MONOTONIC)
        self._kills, self._machine_kills = kills(self._folder), number_in(PROC + "/vmstat", "oom_kill")
        self._least: Optional[int] = None
        self._looked = 0.0
        self.look()

    def look(self) -> None:
        """Note how much memory there is, once a second at most."""
        now = time.monotonic()
        if now - self._looked >= 1.0:
            self._looked = now
            left = available(self._folder)
            if left is not None:
                self._least = left if self._least is None else min(self._least, left)

    def evidence(self) -> "protocol.DeathEvidence":
        lines = kernel_lines(self._began - MARGIN)
        return {
            "kills": difference(self._kills, kills(self._folder)),
            "machine_kills": difference(self._machine_kills, number_in(PROC + "/vmstat", "oom_kill")),
            "limit": limit(self._folder),
            "least": self._least,
            "total": kilobytes("MemTotal"),
            "is_log_readable": lines is not None,
            "kernel": lines or [],
        }


def cgroup() -> str:
    """Return the folder of the cgroup that counts the memory of this process, and of the models that it starts."""
    lines = text_of(PROC + "/self/cgroup").splitlines()
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if "memory" in controllers.split(","):
            return existing(CGROUPS + "/memory", path)
        if number == "0" and not controllers and os.path.exists(CGROUPS + "/cgroup.controllers"):
            return existing(CGROUPS, path)
    return ""


def existing(root: str, path: str) -> str:
    """Return the folder of a cgroup; in a container that is the root of what can be seen."""
    folder = os.path.normpath(root + "/" + path)
    return folder if folder.startswith(root) and os.path.isdir(folder) else root


def kills(folder: str) -> Optional[int]:
    """Return how many processes of a cgroup the kernel has killed for lack of memory."""
    for name in ("memory.events", "memory.oom_control"):
        count = number_in(os.path.join(folder, name), "oom_kill") if folder else None
        if count is not None:
            return count
    return None


def limit(folder: str) -> Optional[int]:
    found = number_of(folder, "memory.max", "memory.limit_in_bytes")
    return found if found is not None and found < UNLIMITED else None


def available(folder: str) -> Optional[int]:
    """Return the bytes that are left: of the machine, or of the cgroup without its cached files if that is less."""
    left = kilobytes("MemAvailable")
    most, used = limit(folder), number_of(folder, "memory.current", "memory.usage_in_bytes")
    if most is not None and used is not None:
        statistics = os.path.join(folder, "memory.stat")
        cached = number_in(statistics, "inactive_file") or number_in(statistics, "total_inactive_file") or 0
        inside = max(0, most - used + cached)
        left = inside if left is None else min(left, inside)
    return left


def kernel_lines(since: float) -> Optional[List[str]]:
    """Return the telling lines of the kernel's log after a time (seconds since boot), the last ones; None if this user
    may not read it."""
    if not machine.ROOT:
        with contextlib.suppress(OSError):
            return telling(of_kmsg(), since)
    for command in PROGRAMS:
        output = output_of(command)
        if output:
            return telling(output.splitlines(), since)
    return None


def telling(lines: Iterable[str], since: float) -> List[str]:
    found = []
    for line in lines:
        match = STAMP.match(line)
        if match and float(match.group(1)) >= since and TELLING.search(match.group(2)):
            found.append(match.group(2)[:MAX_LINE])
    return found[-MAX_LINES:]


def of_kmsg() -> Iterator[str]:
    """Yield the records of /dev/kmsg in the format of dmesg. Raises `OSError` if this user may not read them."""
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            try:
                record = os.read(descriptor, 8192).decode("utf-8", "replace")
            except BlockingIOError:
                return
            except BrokenPipeError:  # it was overwritten meanwhile
                continue
            head, _, text = record.partition(";")
            microseconds = [*head.split(","), "", ""][2]
            if microseconds.isdigit():
                yield "[%.6f] %s" % (int(microseconds) / 1e6, text.partition("\n")[0])
    finally:
        os.close(descriptor)


def output_of(command: List[str]) -> str:
    """Return the output of a program that has ended well within its time."""
    settings = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return ""
    assert process.stdout is not None
    output, deadline = b"", time.monotonic() + PATIENCE
    try:
        while len(output) < MAX_LOG:
            if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return ""
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                break
            output += chunk
    finally:
        process.kill()
        process.stdout.close()
    return output.decode("utf-8", "replace") if process.wait() in (0, -9) else ""


def difference(before: Optional[int], now: Optional[int]) -> Optional[int]:
    return None if before is None or now is None else max(0, now - before)


def number_of(folder: str, *names: str) -> Optional[int]:
    """Return the number in the first of these files of a cgroup that exists."""
    for name in names:
        text = text_of(os.path.join(folder, name)).strip() if folder else ""
        if text.isdigit():
            return int(text)
    return None


def number_in(path: str, name: str) -> Optional[int]:
    """Return the number behind a name in a file of lines `NAME NUMBER`."""
    match = re.search(r"^%s (\d{1,20})$" % name, text_of(path), re.MULTILINE)
    return int(match.group(1)) if match else None


def kilobytes(name: str) -> Optional[int]:
    """Return the bytes of a line of /proc/meminfo."""
    match = re.search(r"^%s: +(\d{1,20}) kB$" % name, text_of(PROC + "/meminfo"), re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def text_of(path: str) -> str:
    with contextlib.suppress(OSError):
        return home.read_bytes(path).decode("utf-8", "replace")
    return ""

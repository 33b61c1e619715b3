"""Processes, and the marker that identifies those of a model."""

import contextlib
import os
from typing import TYPE_CHECKING, Dict, List, NamedTuple

from agent import home, wire

if TYPE_CHECKING:
    from agent import protocol

MARKER = "PI_MODEL_UID"
EMBEDDED = os.environ.get("PI_DEMO_POD", "")  # the folder of an embedded pod; empty on a real one


class Process(NamedTuple):
    """A living process. `start` is its start time in clock ticks since boot; PID and start time are unique."""

    pid: int
    start: int


def marked() -> Dict[str, List[Process]]:
    """Return the living processes of all models, by uid. Zombies count as dead."""
    groups: Dict[str, List[Process]] = {}
    for pid in all_pids():
        wire.beat()
        uid = variable(pid, MARKER) if is_of_this_pod(pid) else ""
        start = start_time(pid) if uid else 0
        if start:
            groups.setdefault(uid, []).append(Process(pid, start))
    return groups


def is_of_this_pod(pid: int) -> bool:
    """Return whether a process is of this machine: embedded pods share one, and may have parts of the same model."""
    return not EMBEDDED or variable(pid, "PI_DEMO_POD") == EMBEDDED


def variable(pid: int, name: str) -> str:
    """Return a variable from a process's environment; the empty string if it is not there, or the process is dead."""
    return variables(pid, name)[0]


def variables(pid: int, *names: str) -> List[str]:
    """Return variables from a process's environment, as `variable` does."""
    environment = b""
    with contextlib.suppress(OSError):
        environment = b"\0" + home.read_bytes("/proc/%d/environ" % pid)
    values = [environment.partition(b"\0" + name.encode() + b"=")[2].partition(b"\0")[0] for name in names]
    return [value.decode("utf-8", "replace") for value in values]


def keys(group: List[Process]) -> List[str]:
    """Return the API keys from the environment of a model's processes, the only place on the pod where they exist.

    The first is vLLM's own.
    """
    for process in group:
        key, others = variables(process.pid, "VLLM_API_KEY", "PI_OTHER_API_KEYS")
        if key:
            return [key, *others.split()]
    return []


def command_line(pid: int) -> List[str]:
    """Return the words of a process's command; none if it is dead."""
    with contextlib.suppress(OSError):
        return home.read_bytes("/proc/%d/cmdline" % pid).decode("utf-8", "replace").split("\0")
    return []


def all_pids() -> List[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 if it is dead or a zombie."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else 0


def stat_fields(pid: int) -> List[str]:
    """Return the fields of /proc/PID/stat from the state on (proc(5), field 3); the name before may contain blanks."""
    try:
        return home.read_bytes("/proc/%d/stat" % pid).decode("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def find_unmarked(entry: "protocol.KnownModel") -> List[Process]:
    """Return the processes of a model that was started by hand, by its PID in `pods.json`: a vLLM on its port.

    Another process may have the PID by now, so the command line is checked.
    """
    pid, port = entry["pid"], str(entry["port"])
    words = command_line(pid) if pid > 1 else []
    has_port = port in words or "--port=" + port in words
    if any("vllm" in word for word in words) and has_port:
        return with_descendants([Process(pid, start_time(pid))])
    return []


def with_descendants(roots: List[Process]) -> List[Process]:
    """Return the living ones of these processes, and all processes that descend from them.

    A process group is no measure: it may be that of the script that started several models, or of a whole container.
    """
    children: Dict[int, List[int]] = {}
    for pid in all_pids():
        for parent in stat_fields(pid)[1:2]:
            children.setdefault(int(parent), []).append(pid)
    found: Dict[int, Process] = {}
    pending = [root.pid for root in roots if start_time(root.pid) == root.start]
    while pending:
        pid = pending.pop()
        start = start_time(pid)
        if start and pid not in found:
            found[pid] = Process(pid, start)
            pending += children.get(pid, [])
    return list(found.values())

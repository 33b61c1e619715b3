"""Processes and the marker by which a model's are known; ending them."""

import contextlib
import os
import signal
import time
from typing import Dict, Iterable, List, NamedTuple, Set

from agent import home
from agent.wire import Json

MARKER = "PI_MODEL_UID"
GRACE = 12.0  # seconds between TERM and KILL


class Process(NamedTuple):
    """A living process. `start` is its start time in clock ticks since boot: with the PID, it is unique."""

    pid: int
    start: int


def marked() -> Dict[str, List[Process]]:
    """Return the living processes of every model, by uid. Zombies are dead."""
    found: Dict[str, List[Process]] = {}
    needle = b"\0" + MARKER.encode() + b"="
    for pid in all_pids():
        with contextlib.suppress(OSError):
            environment = b"\0" + home.read_bytes("/proc/%d/environ" % pid)
            if needle in environment:
                uid = environment.split(needle, 1)[1].split(b"\0", 1)[0].decode("ascii", "replace")
                start = start_time(pid)
                if start:
                    found.setdefault(uid, []).append(Process(pid, start))
    return found


def all_pids() -> List[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is dead or a zombie."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else 0


def stat_fields(pid: int) -> List[str]:
    """Return /proc/PID/stat from the state on (proc(5), field 3): the name before it may hold anything."""
    try:
        return home.read_bytes("/proc/%d/stat" % pid).decode("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def end(uids: Iterable[str], unmarked: Iterable[Process] = (), grace: float = GRACE) -> Dict[str, Set[int]]:
    """TERM every process with these markers, KILL what is left after `grace` seconds, and look again."""
    wanted, others = set(uids), list(unmarked)

    def living() -> Set[int]:
        found = {process.pid for uid, group in marked().items() if uid in wanted for process in group}
        return found | {process.pid for process in others if start_time(process.pid) == process.start}

    def all_gone() -> bool:
        if living():
            return False
        time.sleep(0.05)  # in the middle of exec a process shows no environment
        return not living()

    signal_all(living(), signal.SIGTERM)
    home.wait_until(all_gone, grace)
    killed = living()
    for _ in range(5):  # what was forked between the look and the signal is found by the next look
        signal_all(living(), signal.SIGKILL)
        if home.wait_until(all_gone, 1.0):
            break
    return {"killed": killed, "left": living()}


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def find_unmarked(entry: Json) -> List[Process]:
    """Return the processes of a model without marker, known by hand-written PID: it must be a vLLM on that port.

    A PID may have been reused by somebody innocent, so the command line has to agree.
    """
    pid, port = int(entry.get("pid") or 0), str(entry["port"])
    with contextlib.suppress(OSError):
        words = home.read_bytes("/proc/%d/cmdline" % pid).decode("utf-8", "replace").split("\0")
        has_port = port in words or "--port=" + port in words
        if pid > 1 and any("vllm" in word for word in words) and has_port:
            group = stat_fields(pid)[2]
            together = [other for other in all_pids() if stat_fields(other)[2:3] == [group]]
            return [Process(other, start_time(other)) for other in together if start_time(other)]
    return []


def is_alive(entry: Json) -> bool:
    return bool(entry.get("uid") and marked().get(entry["uid"])) or bool(find_unmarked(entry))

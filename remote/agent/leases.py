"""The leases of models: a model with one is ended after some time without work, by a process that watches it.

    ~/.pi/leases/UID.json      what was asked for, written by `pi start` and `pi lease`; without it, the watcher ends
    ~/.pi/leases/UID.state     what the watcher has seen, written by that process only
    ~/.pi/leases/ended.jsonl   the latest ends (see `lease_ends`)
    ~/.pi/lib/lease.py         the program of the watchers (see `lease_watchers` and `lease_watch`)

A machine that is not the first of its home has the folder in its own place. A watcher is identified by PI_LEASE_UID=UID
in its environment. It has no key: it reads that of the model from the model's own processes, as a survey does.

Times are of the monotonic clock, which all processes share: it never jumps, and stands still while the machine sleeps.
"""

import contextlib
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Iterable, List, Optional

from agent import home, processes
from agent.machine import PLACE

if TYPE_CHECKING:
    from agent import protocol

MARKER = "PI_LEASE_UID"
FOLDER = os.path.join(PLACE, "leases")
MAX_FILE = 65536  # bytes


def path_of(uid: str, kind: str = "json") -> str:
    return os.path.join(FOLDER, "%s.%s" % (uid, kind))


def read_all() -> "List[protocol.Lease]":
    """Return the leases of this machine since it was started last."""
    names = home.files_in(FOLDER, ".json")
    found = [read(os.path.basename(name)[: -len(".json")]) for name in names]
    return [lease for lease in found if lease is not None]


def read(uid: str) -> "Optional[protocol.Lease]":
    """Return the lease of a launch; None if it has none, or the machine or its container was started again since."""
    data = read_json(path_of(uid))
    if not isinstance(data, dict) or data.get("uid") != uid or not isinstance(data.get("name"), str):
        return None
    seconds, then = data.get("seconds"), data.get("then")
    if not isinstance(seconds, (int, float)) or not seconds > 0 or data.get("life") != life():
        return None
    return {
        "uid": uid,
        "name": data["name"],
        "seconds": float(seconds),
        "then": "stop-pod" if then == "stop-pod" else None,
        "life": life(),
    }


def life() -> str:
    """Return what changes when the machine, or the container that it is, is started again.

    A lease must not reach beyond that: its model is gone, and it would stop a pod that was just started again.
    """
    return "%s %d" % (home.boot_id(), processes.start_time(1))


def state_of(uid: str) -> "Optional[protocol.LeaseState]":
    data: Any = read_json(path_of(uid, "state"))
    try:
        counters = data["counters"]
        state: "protocol.LeaseState" = {
            "pid": int(data["pid"]),
            "start": int(data["start"]),
            "phase": data["phase"],
            "since": float(data["since"]),
            "counters": None if counters is None else [float(number) for number in counters],
        }
    except (KeyError, TypeError, ValueError):
        return None
    return state


def read_json(path: str) -> Any:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return json.loads(home.read_regular(path, MAX_FILE))
    return None


def write(lease: "protocol.Lease") -> None:
    home.write_file(path_of(lease["uid"]), json.dumps(lease))


def write_state(uid: str, state: "protocol.LeaseState") -> None:
    home.write_file(path_of(uid, "state"), json.dumps(state))


def forget(uid: str) -> None:
    for kind in ("json", "state"):
        with contextlib.suppress(OSError):
            os.unlink(path_of(uid, kind))


def watcher_of(uid: str) -> Optional[int]:
    """Return the PID of the process that watches a launch; None if it is dead."""
    state = state_of(uid)
    if state and 0 < processes.start_time(state["pid"]) == state["start"]:
        return state["pid"] if processes.variable(state["pid"], MARKER) == uid else None
    return None


def stop(uids: Iterable[str]) -> None:
    """End leases, and the processes that watch them, except this one."""
    import signal

    for uid in uids:
        pid = watcher_of(uid)
        forget(uid)
        if pid and pid != os.getpid():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)  # what it may have written in the meantime is deleted below
            home.wait_until(partial(has_ended, pid), 2.0)
            forget(uid)


def has_ended(pid: int) -> bool:
    return not processes.start_time(pid)


def stop_all() -> None:
    stop([os.path.basename(name).rpartition(".")[0] for name in home.files_in(FOLDER, ".json")])

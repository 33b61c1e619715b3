"""Start what watches a model with a lease, and report what it sees."""

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, List, Optional, Sequence

from agent import home, leases, processes, variables, wire
from agent.home import PI

if TYPE_CHECKING:
    from agent import protocol

PROGRAM = os.path.join(PI, "lib", "lease.py")


def begin(uid: str, name: str, wish: "protocol.LeaseWish", *, is_ready: bool) -> None:
    """Give a launch a lease, and start what watches it, if nothing does yet. Raises `OSError`."""
    home.write_file(PROGRAM, wire.unpacked(wish["program"]))
    leases.write({"uid": uid, "name": name, "seconds": wish["seconds"], "then": wish["then"], "life": leases.life()})
    if not leases.watcher_of(uid):
        watch(uid, is_ready=is_ready)


def watch(uid: str, *, is_ready: bool) -> None:
    """Start the process that watches a launch. It begins its work once the state names it."""
    import subprocess  # not at the top, as in other modules of a survey: it takes longer to load than one takes

    command = [sys.executable or "python3", "-I", "-S", PROGRAM, uid]
    settings = dict(variables.of_the_machine(os.environ), **{leases.MARKER: uid})
    null = subprocess.DEVNULL
    watcher = subprocess.Popen(
        command, env=settings, stdin=null, stdout=null, stderr=null, start_new_session=True, cwd="/"
    )
    before = leases.state_of(uid)
    state: "protocol.LeaseState" = before or {
        "pid": 0,
        "start": 0,
        "phase": "silent" if is_ready else "loading",
        "since": time.monotonic(),
        "counters": None,
    }
    leases.write_state(uid, dict(state, pid=watcher.pid, start=processes.start_time(watcher.pid)))  # type: ignore[arg-type]
    watcher.returncode = 0  # it outlives the agent, which does not wait for it


def revive() -> List[str]:
    """Start the watchers again that have died, delete what is left of earlier lives; return the uids of the former."""
    revived = []
    for name in home.files_in(leases.FOLDER, ".json"):
        uid = os.path.basename(name)[: -len(".json")]
        if leases.read(uid) is None:
            leases.forget(uid)
        elif not leases.watcher_of(uid) and os.path.exists(PROGRAM):
            with contextlib.suppress(OSError):
                watch(uid, is_ready=True)
                revived.append(uid)
    return revived


def report(lease: "protocol.Lease", revived: Sequence[str]) -> "protocol.LeaseReport":
    """Return what is known of a lease; `left` is None while its clock stands still."""
    state, uid = leases.state_of(lease["uid"]), lease["uid"]
    phase = state["phase"] if state else "loading"
    left: Optional[float] = None
    if state and phase in ("idle", "died"):
        left = max(0.0, lease["seconds"] - max(0.0, time.monotonic() - state["since"]))
    elif phase == "busy":
        left = lease["seconds"]
    return {
        "uid": uid,
        "name": lease["name"],
        "seconds": lease["seconds"],
        "left": left,
        "phase": phase,
        "phase_seconds": max(0.0, time.monotonic() - state["since"]) if state else 0.0,
        "then": lease["then"],
        "watcher": "revived" if uid in revived else "lives" if leases.watcher_of(uid) else "dead",
    }


def report_of(uid: Optional[str], revived: Sequence[str]) -> "Optional[protocol.LeaseReport]":
    lease = leases.read(uid) if uid else None
    return report(lease, revived) if lease else None

"""Watch one model on the pod, and end it after its lease without work: a process of its own, which needs no laptop.

Without work: no request runs or waits, none has finished and no token was generated or read since the last look, by
vLLM's own counters. The clock starts when the model is ready, and again after each sign of work. A model that does not
answer is not idle: it may be working, and is not ended. What else happens is in `Watch.look`.

A model is ended as by `pi stop`. What follows is written down, and with `then` the provider stops the pod, once no
other model and no other lease is left on it.
"""

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Sequence

from agent import home, lease_ends, leases, metrics, pod_stop, ports, processes, records, stop

if TYPE_CHECKING:
    from agent import protocol

LONGEST_LOAD = 6 * 3600.0  # seconds after which a model that has never answered is ended: no load takes so long
SHORTEST_LOOK, LONGEST_LOOK = 0.5, 15.0  # seconds between two looks
LOADING_LOOK = 1.0  # while the model loads: the list shows when it is ready
LOOKS = 20  # in one lease
LONGEST_RETRY = 900.0  # seconds until what has failed is tried again
LAST_RETRY = 86400.0  # seconds for which the provider is asked again
STUCK = 3  # attempts to end a model before the pod is stopped with it

Clock = Callable[[], float]


class Sight(NamedTuple):
    """A look at a model. `work` is [running, waiting, counters …]; None if it does not answer."""

    lives: bool
    work: Optional[List[float]] = None


def seen(state: "protocol.LeaseState", sight: Sight, now: float) -> "protocol.LeaseState":
    """Return the state after a look."""
    phase, counters = state["phase"], state["counters"]
    new: "protocol.LeasePhase"
    if not sight.lives:
        new, is_same = "died", phase == "died"
    elif sight.work is None:
        new = "loading" if phase == "loading" else "silent"
        is_same = phase == new
    else:
        before, counters = counters, sight.work[2:]
        new = "busy" if any(sight.work[:2]) else "idle"
        is_same = phase == new == "idle" and before == counters
    return {
        "pid": state["pid"],
        "start": state["start"],
        "phase": new,
        "since": state["since"] if is_same else now,
        "counters": counters,
    }


def left(state: "protocol.LeaseState", seconds: float, now: float) -> Optional[float]:
    """Return for how many seconds nothing may happen before the model is ended; None if its clock stands still."""
    limits = {"idle": seconds, "died": seconds, "loading": LONGEST_LOAD}
    return limits[state["phase"]] - (now - state["since"]) if state["phase"] in limits else None


def between_looks(seconds: float) -> float:
    return min(LONGEST_LOOK, max(SHORTEST_LOOK, seconds / LOOKS))


def look(uid: str) -> Sight:
    """Look at a model's processes and at its metrics; the key is read from the processes, and only they get it."""
    marked = processes.marked()
    group, record = marked.get(uid, []), find(uid)
    if not group:
        return Sight(record is not None and records.lives(record, marked))
    if record is None:
        return Sight(True)
    key = next(iter(processes.keys(group)), None)
    status, text = ports.get(record["port"], "/metrics", key, group)
    return Sight(True, work_in(text) if status == 200 else None)


def work_in(text: bytes) -> Optional[List[float]]:
    """Return [running, waiting, counters …] from metrics; None if this vLLM does not report its work."""
    sums = metrics.sums(text)
    if not {"running", "waiting", "generation_tokens"} <= set(sums):
        return None
    counters = ("finished", "generation_tokens", "prompt_tokens")
    return [sums["running"], sums["waiting"], *(sums.get(name, 0.0) for name in counters)]


def find(uid: str) -> "Optional[protocol.Record]":
    return next((record for record in records.read_all() if record["uid"] == uid), None)


class Watch:
    """The watch over one model, by a monotonic clock."""

    def __init__(self, uid: str, clock: Clock = time.monotonic, sees: Callable[[str], Sight] = look) -> None:
        self.uid = uid
        self.clock = clock
        self.sees = sees
        self.attempts = 0

    def look(self) -> Optional[float]:
        """Look once, and act if it is time; return the seconds until the next look, None if the watch is over."""
        lease, state = self.current()
        if lease is None or state is None:
            return None
        if state["phase"] == "stopping-pod":  # the process that watched before died
            end = next((end for end in reversed(lease_ends.read_ends()) if end["uid"] == self.uid), None)
            return self.follow(lease, end or self.nothing_yet(lease, state))
        if state["phase"] in ("ending", "stuck"):
            return self.end(lease, state)
        before, state = state["phase"], seen(state, self.sees(self.uid), self.clock())
        self.write(state)
        # At the first look, a start may just be trying again on another port.
        if before == state["phase"] == "died" and lease["then"] is None:
            leases.forget(self.uid)
            return None
        rest = left(state, lease["seconds"], self.clock())
        if rest is None or rest > 0:
            pause = LOADING_LOOK if state["phase"] == "loading" else between_looks(lease["seconds"])
            return pause if rest is None else max(0.05, min(pause, rest))
        return self.end(lease, state)

    def current(self) -> "tuple[Optional[protocol.Lease], Optional[protocol.LeaseState]]":
        """Return the lease and its state; None if it was taken back, or another process watches this model."""
        state = leases.state_of(self.uid)
        return leases.read(self.uid), state if state and state["pid"] == os.getpid() else None

    def write(self, state: "protocol.LeaseState") -> None:
        if leases.read(self.uid) is not None:  # else it was taken back, and nothing may be left of it
            with contextlib.suppress(OSError):
                leases.write_state(self.uid, state)

    def end(self, lease: "protocol.Lease", state: "protocol.LeaseState") -> Optional[float]:
        """End the model, unless it has work now; then what follows."""
        if state["phase"] not in ("ending", "stuck") and not self.may_end(lease, state):
            return 0.0
        end = self.nothing_yet(lease, state)
        record = find(self.uid)
        if record is not None and end["why"] != "died":
            result = stop.stop([records.known_as(record)], exact=True, by_lease=True)
            end["outcome"], end["freed"] = result["outcomes"][0], result["freed"]
        self.attempts += 1
        if end["outcome"] == "stuck" and (lease["then"] is None or self.attempts < STUCK):
            lease_ends.note(end)
            self.write(dict(state, phase="stuck"))  # type: ignore[arg-type]
            return retry_after(self.attempts, lease["seconds"])
        return self.follow(lease, end)

    def may_end(self, lease: "protocol.Lease", state: "protocol.LeaseState") -> bool:
        """Look once more, while `pi lease` and a start wait; note that the model is being ended if nothing changed."""
        with records.locked(required=False):
            again = seen(state, self.sees(self.uid), self.clock())
            if leases.read(self.uid) != lease or (again["phase"], again["since"]) != (state["phase"], state["since"]):
                return False
            if state["phase"] != "died":
                self.write(dict(again, phase="ending"))  # type: ignore[arg-type]
        return True

    def nothing_yet(self, lease: "protocol.Lease", state: "protocol.LeaseState") -> "protocol.LeaseEnd":
        """Return the entry for the log, before anything was done."""
        why: "protocol.LeaseWhy" = (
            "died" if state["phase"] == "died" else "load" if state["phase"] == "loading" else "idle"
        )
        return {
            "at": time.time(),
            "uid": self.uid,
            "name": lease["name"],
            "why": why,
            "idle": self.clock() - state["since"],
            "outcome": "gone",
            "freed": None,
            "pod": "billed",
            "reason": "",
            "others": [],
            "off": 0.0,
        }

    def follow(self, lease: "protocol.Lease", end: "protocol.LeaseEnd") -> Optional[float]:
        """Do what follows the end of a model: nothing, or stop the pod."""
        if lease["then"] is None:
            lease_ends.note(end)
            leases.forget(self.uid)
            return None
        began, attempts = self.clock(), 0
        while True:
            attempts += 1
            trouble = self.stop_pod(end)
            if trouble is None:
                return None
            tell(end, "failed", trouble)
            if self.clock() - began > LAST_RETRY:
                leases.forget(self.uid)
                return None
            # The lease was forgotten before the attempt: a pod that was stopped and started again has none.
            leases.write(lease)
            self.write(
                {
                    "pid": os.getpid(),
                    "start": processes.start_time(os.getpid()),
                    "phase": "stopping-pod",
                    "since": self.clock(),
                    "counters": None,
                }
            )
            if not self.sleeps(retry_after(attempts, lease["seconds"])):
                tell(end, "billed")
                return None

    def sleeps(self, seconds: float) -> bool:
        """Sleep; return False as soon as the lease is taken back."""
        until = self.clock() + seconds
        while self.clock() < until:
            if leases.read(self.uid) is None:
                return False
            time.sleep(min(1.0, max(0.05, until - self.clock())))
        return True

    def stop_pod(self, end: "protocol.LeaseEnd") -> Optional[str]:
        """Stop the pod, unless others need it; return why that failed, None if there is nothing more to do."""
        with records.locked(required=False):  # a start waits for the answer of the provider
            others = [each for each in leases.read_all() if each["uid"] != self.uid]
            models = [record["name"] for record in records.living() if record["uid"] != self.uid]
            if others or models:
                for other in others:  # the last of them stops the pod
                    leases.write(dict(other, then="stop-pod"))  # type: ignore[arg-type]
                tell(end, "kept", others=sorted({*models, *(other["name"] for other in others)}))
                leases.forget(self.uid)
                return None
            tell(end, "asked")
            leases.forget(self.uid)
            pod = pod_stop.find()
            trouble = pod_stop.stop(pod) if pod else "the provider's id and key of this pod are gone"
            if not trouble:
                tell(end, "stopped")
                return None
        return trouble


def tell(end: "protocol.LeaseEnd", pod: "protocol.LeasePod", reason: str = "", others: Sequence[str] = ()) -> None:
    """Note what became of the pod."""
    end["pod"], end["reason"], end["others"] = pod, reason[:300], list(others)
    lease_ends.note(end)


def retry_after(attempts: int, seconds: float) -> float:
    """Return for how long to wait after so many attempts: each time twice as long, first as long as between looks."""
    return min(LONGEST_RETRY, between_looks(seconds) * float(2 ** min(attempts - 1, 10)))


def main() -> None:
    uid = sys.argv[-1]
    os.umask(0o077)
    watch = Watch(uid)
    home.wait_until(lambda: watch.current()[1] is not None, 10.0)
    while True:
        try:
            pause = watch.look()
        except Exception:  # noqa: BLE001 - a disk that is full or gone for a moment must not end the watch
            pause = LONGEST_LOOK
        if pause is None:
            return
        time.sleep(pause)

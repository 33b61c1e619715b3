"""Follow a vLLM that was launched until it answers, and send its log."""

import os
from typing import TYPE_CHECKING, BinaryIO, Callable, List, NamedTuple, Optional

from agent import deaths, ending, home, phases, ports, processes, records, wire
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol


class Exit(NamedTuple):
    """How vLLM exited: an exit code or a signal; neither is known if another start launched it."""

    code: Optional[int] = None
    signal: Optional[int] = None


def watch(
    record: "protocol.Record",
    ended: Callable[[], Optional[Exit]],
    memory: deaths.Watch,
    *,
    from_launch: bool = True,
) -> "protocol.StartResult":
    """Send the log until the model answers `/health` or `ended` returns its exit; exit when pi disconnects.

    Phases have the seconds since the launch, except those that were over before.
    """
    uid, seen = record["uid"], phases.Phases()
    with os.fdopen(home.open_regular(record["log"]), "rb") as log:
        while True:
            memory.look()
            end = ended()
            pass_on(log, seen, since=record["since"] if from_launch else None)
            from_launch = True
            if end is not None:
                ending.end([uid], grace=2.0)
                pass_on(log, seen)
                records.forget(uid)
                return {
                    "state": "exited",
                    "record": record,
                    "took": None,
                    "code": end.code,
                    "signal": end.signal,
                    "death": memory.evidence(),
                }
            port = record["port"]
            if ports.accepts(port) and ports.health(port, processes.marked().get(uid, [])) == 200:
                took = home.uptime() - record["since"]
                return {"state": "healthy", "record": record, "took": took, "code": None, "signal": None, "death": None}
            if wire.stdin_ended(home.TICK):
                wire.leave()


def attach(name: str) -> "protocol.StartResult":
    """Follow a model that another client has started, from the beginning of its log, as `start` does."""
    record = wait_for_launch(records.uid_of(name) or "", name)
    wire.emit({"event": "launched", "pid": record["pid"]})

    def ended() -> Optional[Exit]:
        return None if processes.start_time(record["pid"]) == record["start"] else Exit()

    return watch(record, ended, deaths.Watch(), from_launch=False)


def wait_for_launch(uid: str, name: str) -> "protocol.Record":
    """Return the record of a model once vLLM is launched; until then, report the progress of its download."""
    is_placed = False
    while True:
        matches = [record for record in records.living() if record["uid"] == uid]
        if not matches:
            raise Refused({"code": "not-there", "name": name})
        record = matches[0]
        if not is_placed:
            is_placed = True
            wire.emit({"event": "placed", "port": record["port"], "gpu": record["gpu"], "log": record["log"]})
        if record["pid"]:
            return record
        progress: "Optional[List[Optional[int]]]" = record.get("progress")
        if progress:
            done, total = progress
            wire.emit({"event": "progress", "done": done or 0, "total": total, "by": None})
        if wire.stdin_ended(1.0):
            wire.leave()


def pass_on(log: BinaryIO, seen: phases.Phases, since: Optional[float] = None) -> None:
    while True:
        chunk = log.read(65536)
        if not chunk:
            return
        wire.emit({"event": "log", "text": chunk.decode("utf-8", "replace")})
        phase = seen.feed(chunk)
        if phase:
            wire.emit({"event": "phase", "text": phase, "at": None if since is None else home.uptime() - since})

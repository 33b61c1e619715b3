"""How leases have ended models: a log on the pod with the latest ends."""

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Any, Dict, List

from agent import home, leases, processes

if TYPE_CHECKING:
    from agent import protocol

ENDED = os.path.join(leases.FOLDER, "ended.jsonl")
MAX_ENDS = 50


def note(end: "protocol.LeaseEnd") -> None:
    """Add the end of a model to the log, or replace what it says of the same launch; the latest `MAX_ENDS` stay."""
    ends = [each for each in read_ends() if each["uid"] != end["uid"]]
    with contextlib.suppress(OSError):  # on a full disk, the model is ended all the same
        home.write_file(ENDED, "".join(json.dumps(each) + "\n" for each in [*ends, end][-MAX_ENDS:]))


def read_ends() -> "List[protocol.LeaseEnd]":
    """Return the ends of models in the log, the latest last."""
    ends: "List[protocol.LeaseEnd]" = []
    lines: List[bytes] = []
    with contextlib.suppress(OSError):
        lines = home.read_regular(ENDED, 4 * leases.MAX_FILE).splitlines()
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            data: Dict[str, Any] = json.loads(line)
            end: Any = {
                "at": float(data["at"]),
                "uid": str(data["uid"]),
                "name": str(data["name"]),
                "why": str(data["why"]),
                "idle": float(data["idle"]),
                "outcome": str(data["outcome"]),
                "freed": None if data["freed"] is None else int(data["freed"]),
                "pod": str(data["pod"]),
                "reason": str(data["reason"])[:300],
                "others": [str(name) for name in data["others"]][:20],
                "off": seconds_off(data) if data["pod"] in ("asked", "stopped") else 0.0,
            }
            ends.append(end)
    return ends


def seconds_off(data: Any) -> float:
    """Return for how long this machine, or the container that it is, did not run after the end of a model."""
    start = processes.start_time(1) / os.sysconf("SC_CLK_TCK")
    began = time.time() - max(0.0, home.uptime() - start)
    return max(0.0, began - float(data["at"]))


def by_uid() -> "Dict[str, protocol.LeaseEnd]":
    return {end["uid"]: end for end in read_ends()}

"""What a model's server tells about itself: its health, its metrics, and for how long it has answered no request."""

import contextlib
import json
import time
from typing import TYPE_CHECKING, List, NamedTuple, Optional

from agent import metrics, ports
from agent.processes import Process

if TYPE_CHECKING:
    from agent import protocol

# The middleware answers these (`require_key.py`). The first one tells all at once.
LOOK = "/.well-known/pi-model?look"
REQUESTS = "/.well-known/pi-model?requests"
MAX_HEAD = 200  # bytes


class Told(NamedTuple):
    """`health` is the status of `/health`, 0 without an answer; `silent` the seconds without an answer to requests."""

    health: int
    load: "Optional[protocol.Metrics]" = None
    silent: Optional[float] = None


def ask(port: int, key: Optional[str], group: List[Process]) -> Told:
    """Ask a server in one request; in three, if an older version of pi started it, or another server answers."""
    status, text = ports.get(port, LOOK, key, group) if key else (404, b"")
    if status == 0:
        return Told(0)
    head, _, rest = text.partition(b"\n")
    health = number(head, "health") if status == 200 else None
    if health is not None:
        return Told(int(health), metrics.read(rest, time.monotonic()), number(head, "silent"))
    health = ports.get(port, "/health")[0]
    if health != 200:
        return Told(health)
    load = metrics.read(ports.get(port, "/metrics", key, group)[1], time.monotonic())
    status, text = ports.get(port, REQUESTS, key, group) if key else (404, b"")
    return Told(health, load, number(text, "silent") if status == 200 else None)


def number(text: bytes, name: str) -> Optional[float]:
    """Return a number of an answer of the middleware; None if there is none."""
    with contextlib.suppress(ValueError, RecursionError):
        answer = json.loads(text.decode("utf-8")) if len(text) <= MAX_HEAD else None
        value = answer.get(name) if isinstance(answer, dict) else None
        return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e9 else None
    return None

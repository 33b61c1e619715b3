"""Whether the engine of a model answers: its server takes requests and looks healthy also when it does not."""

import json
import time
from typing import TYPE_CHECKING, Dict, FrozenSet, List, Optional

from agent import answers, metrics, ports
from agent.processes import Process

if TYPE_CHECKING:
    from agent import protocol

SILENCE = 15.0  # seconds in which no request was answered although some wait
# An engine that works moves its counters with each step, and the share of the KV cache with each part of a long prompt.
MOVES_WITHIN = 1.0  # seconds
PAUSE = 0.1  # seconds
PROBE_TIMEOUT = 5.0  # seconds for an answer to one tiny request
ROUTES: Dict[str, Dict[str, object]] = {
    "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    "/v1/embeddings": {"input": "Hi"},
}


def is_stalled(model: "protocol.KnownModel", key: Optional[str], group: List[Process], told: answers.Told) -> bool:
    """Return whether a model takes requests and answers none.

    It is asked itself only if requests wait and nothing has moved: never beside an engine at work.
    """
    port = model["port"]
    if not key or not seems_silent(told):
        return False
    before, deadline = counters(port, key, group), time.monotonic() + MOVES_WITHIN
    while time.monotonic() < deadline:
        time.sleep(PAUSE)
        if counters(port, key, group) != before:
            return False
    for route, request in ROUTES.items():
        body = json.dumps({"model": model["name"], **request}).encode("utf-8")
        status, _ = ports.get(port, route, key, group, body, PROBE_TIMEOUT)
        if status not in (404, 405):  # it is of another kind
            return status == 0 and counters(port, key, group) == before
    return False


def seems_silent(told: answers.Told) -> bool:
    """Return whether requests wait for an answer, and none has come for a while.

    The guard knows that. The engine's own count of its requests stands still with it.
    """
    if told.silent is not None:
        return told.silent >= SILENCE
    return any(metrics.requests(told.load) or ())


def counters(port: int, key: str, group: List[Process]) -> FrozenSet[bytes]:
    """Return what vLLM reports about its work, as text."""
    _, text = ports.get(port, "/metrics", key, group)
    return frozenset(line for line in text.splitlines() if line.startswith(b"vllm:"))

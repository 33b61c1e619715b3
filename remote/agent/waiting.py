"""An agent that is loaded and waits for a request, over a link that pi holds (`pi_cli/hold`).

An empty line asks whether it is there; a beat is the answer, with the hash of this program if the pod has kept it.
Nothing else is done before the request has come.
"""

import concurrent.futures.thread  # noqa: F401 - loaded before the request comes
import signal
import sys

from agent import keep, wire
from agent import main as agent

LONGEST = 3600  # seconds; the end of stdin may be lost. pi has a new agent wait after half of it


def main() -> None:
    signal.alarm(LONGEST)
    kept = keep.keep()
    line = sys.stdin.buffer.readline()
    while line == b"\n":
        wire.emit({"event": "beat", "kept": kept} if kept else {"event": "beat"})
        line = sys.stdin.buffer.readline()
    signal.alarm(0)
    if not line:
        wire.leave()
    agent.answer(line)

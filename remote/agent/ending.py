"""End processes, whole trees of them, and prove that they are gone."""

import contextlib
import os
import signal
import time
from typing import Dict, Iterable, Set

from agent import home, processes
from agent.processes import Process

GRACE = 12.0  # seconds between TERM and KILL


def end(uids: Iterable[str], unmarked: Iterable[Process] = (), grace: float = GRACE) -> Dict[str, Set[int]]:
    """TERM every process with these markers, KILL what is left after `grace` seconds, and look again."""
    wanted, others = set(uids), list(unmarked)

    def living() -> Set[int]:
        found = {process.pid for uid, group in processes.marked().items() if uid in wanted for process in group}
        return found | {process.pid for process in others if processes.start_time(process.pid) == process.start}

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

"""Stop processes with all their children, and verify that they are gone."""

import contextlib
import os
import signal
import time
from typing import Dict, Iterable, Set

from agent import home, processes
from agent.processes import Process

GRACE = 12.0  # seconds between TERM and KILL


def end(uids: Iterable[str], unmarked: Iterable[Process] = (), grace: float = GRACE) -> Dict[str, Set[int]]:
    """Send TERM to every process with these markers, KILL to those left after `grace` seconds, and check again.

    `unmarked` are processes of models that were started by hand; those that descend from them are ended, too.
    """
    wanted, others = set(uids), set(unmarked)

    def living() -> Set[int]:
        pids = {process.pid for uid, group in processes.marked().items() if uid in wanted for process in group}
        if others:  # and what they have started since
            others.update(processes.with_descendants(list(others)))
        return pids | {process.pid for process in others if processes.start_time(process.pid) == process.start}

    def all_gone() -> bool:
        if living():
            return False
        time.sleep(0.05)  # during exec, a process shows no environment
        return not living()

    signal_all(living(), signal.SIGTERM)
    home.wait_until(all_gone, grace)
    killed = living()
    for _ in range(5):  # a process that was forked between the check and the signal is found by the next check
        signal_all(living(), signal.SIGKILL)
        if home.wait_until(all_gone, 1.0):
            break
    return {"killed": killed, "left": living()}


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)

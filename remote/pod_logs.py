"""Pass on a model's log, byte for byte. Used by `pod_agent`.

Standard library only, Python 3.8 or newer.
"""

import os
import subprocess
import time
from typing import Optional

import pod_machine as machine
from pod_machine import LOGS, Json, Refused


def logs(name: str, uid: Optional[str], pid: int, port: int, lines: str, follow: bool) -> Json:
    """Print the log as it is: after one marked line everything on stdout is the file's own bytes.

    Following ends when the model is dead or stdin has ended; the bytes come from `tail`, which waits with inotify.
    """
    path = os.path.join(LOGS, name + ".log")
    entry = {"name": name, "uid": uid or machine.uid_of(name), "pid": pid, "port": port}
    follow = follow and machine.is_alive(entry)
    if not os.path.exists(path) and not follow:
        raise Refused("no-log", "there is no log at %s" % path)
    machine.emit(result={"alive": follow})
    tail = subprocess.Popen(
        ["tail", "-n", lines] + (["-F", "--pid=%d" % os.getpid()] if follow else []) + [path],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    checked = time.monotonic()
    while tail.poll() is None:
        if machine.stdin_ended(machine.TICK):
            break
        if follow and time.monotonic() - checked > 1.0:
            checked = time.monotonic()
            if not machine.is_alive(entry):
                machine.stdin_ended(machine.TICK)  # the last lines are on their way
                break
    tail.terminate()
    tail.wait()
    machine.leave()

"""Ask `nvidia-smi`, which may hang for ever: it gets so long, and is left behind then."""

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import Dict, List, Tuple

from agent import home, processes
from agent.wire import Json

PATIENCE = 10.0  # seconds: without persistence mode a machine with eight GPUs takes three
QUICK = 2.5  # seconds for what is only nice to know: while models run, the driver is loaded and answers at once
NVIDIA_PLACES = ["/usr/lib/wsl/lib", "/usr/local/nvidia/bin"]  # where some containers keep nvidia-smi
MEMORY = ["nvidia-smi", "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]


def memory(patience: float = QUICK) -> Dict[int, Tuple[int, int]]:
    """Return (used, total) MiB of every GPU that tells."""
    told = {}
    for line in ask(MEMORY, home.pod_environment(), patience)["text"].splitlines():
        with contextlib.suppress(ValueError):
            index, used, total = (int(field) for field in line.split(","))
            told[index] = (used, total)
    return told


def holders(questions: List[List[str]]) -> Json:
    """Tell what `nvidia-smi` says of who holds memory, and which processes are our models'."""
    settings = home.pod_environment()
    ours = [process.pid for group in processes.marked().values() for process in group]
    return {"said": [ask(question, settings)["text"] for question in questions], "ours": ours}


def ask(command: List[str], settings: Dict[str, str], patience: float = PATIENCE) -> Json:
    """Run a command for its output; `trouble` says why there is none, or not all of it."""
    places = os.pathsep.join([settings.get("PATH", os.defpath), *NVIDIA_PLACES])
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(settings, PATH=places, LC_ALL="C"),
            start_new_session=True,
        )
    except OSError as error:
        return {"text": "", "trouble": "%s: %s" % (command[0], error.strerror)}
    assert process.stdout is not None
    output, is_whole = read_until(process.stdout.fileno(), time.monotonic() + patience)
    text = output.decode("utf-8", "replace")
    if not is_whole or not home.wait_until(lambda: process.poll() is not None, 1.0):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # nobody waits for it: a process that hangs in a driver stays
        return {"text": text, "trouble": "%s did not answer within %.0f s" % (command[0], patience)}
    words = text.strip().splitlines()
    failed = "%s failed: %s" % (command[0], words[-1] if words else "exit code %d" % process.returncode)
    return {"text": text, "trouble": failed if process.returncode else None}


def read_until(descriptor: int, deadline: float) -> Tuple[bytes, bool]:
    """Read to the end, or so long; tell whether the end was reached."""
    output = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return output, True
        output += chunk
    return output, False

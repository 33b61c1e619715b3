"""Run `nvidia-smi`, which may never end: after a time-out it is killed and abandoned."""

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

from agent import home, processes, variables

if TYPE_CHECKING:
    from agent import protocol

TIMEOUT = 10.0  # seconds: without persistence mode, a machine with eight GPUs takes three
QUICK_TIMEOUT = 2.5  # seconds for optional figures: while models run, the driver is loaded and answers immediately
# Where WSL, GKE's containers and Debian have nvidia-smi, beside the PATH; the same in `remote/setup/gpus.sh`.
NVIDIA_FOLDERS = ["/usr/lib/wsl/lib", "/usr/local/nvidia/bin", "/usr/lib/nvidia/current"]
MEMORY = ["nvidia-smi", "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]


class Output(NamedTuple):
    """The output of a program; `trouble` is why it is missing or incomplete."""

    text: str
    trouble: Optional[str]


def memory(timeout: float = QUICK_TIMEOUT) -> Dict[int, Tuple[int, int]]:
    """Return (used, total) MiB of every GPU for which nvidia-smi reports them."""
    sizes = {}
    for line in ask(MEMORY, variables.pod_environment(), timeout).text.splitlines():
        with contextlib.suppress(ValueError):
            index, used, total = (int(field) for field in line.split(","))
            sizes[index] = (used, total)
    return sizes


def holders(questions: List[List[str]]) -> "protocol.Holders":
    """Ask `nvidia-smi` which processes hold memory; also return the PIDs of the models' processes."""
    settings = variables.pod_environment()
    ours = [process.pid for group in processes.marked().values() for process in group]
    return {"outputs": [ask(question, settings).text for question in questions], "ours": ours}


def ask(command: List[str], settings: Dict[str, str], timeout: float = TIMEOUT) -> Output:
    """Run a command and return its output."""
    path = os.pathsep.join([settings.get("PATH", os.defpath), *NVIDIA_FOLDERS])
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(settings, PATH=path, LC_ALL="C"),
            start_new_session=True,
        )
    except OSError as error:
        return Output("", "%s: %s" % (command[0], error.strerror))
    assert process.stdout is not None
    output, is_whole = home.read_until(process.stdout.fileno(), time.monotonic() + timeout)
    text = output.decode("utf-8", "replace")
    if not is_whole or not home.wait_until(lambda: process.poll() is not None, 1.0):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # without waiting: a process that hangs in a driver stays
        return Output(text, "%s did not answer within %.0f s" % (command[0], timeout))
    lines = text.strip().splitlines()
    failed = "%s failed: %s" % (command[0], lines[-1] if lines else "exit code %d" % process.returncode)
    return Output(text, failed if process.returncode else None)

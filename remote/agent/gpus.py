"""Run `nvidia-smi`, which may never end: after a time-out it is killed and abandoned."""

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple, Union

from agent import home, processes, variables, wire

if TYPE_CHECKING:
    import subprocess

    from agent import protocol

# Seconds, as in setup (`remote/setup/gpus.sh`): without persistence mode, a machine with eight GPUs takes 25 to 40.
# PI_DRIVER_PATIENCE makes it shorter in tests.
PATIENCE = 60.0
NOTE_SHARE = 1 / 12  # of the patience, then it is said: 5 s; optional figures are not waited for any longer
# Where WSL, GKE's containers and Debian have nvidia-smi, beside the PATH; the same in `remote/setup/gpus.sh`.
NVIDIA_FOLDERS = ["/usr/lib/wsl/lib", "/usr/local/nvidia/bin", "/usr/lib/nvidia/current"]
LOAD_FIELDS = "utilization.gpu,power.draw,power.limit,temperature.gpu,mig.mode.current,name"
MEMORY = ["nvidia-smi", "--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]


class Output(NamedTuple):
    """The output of a program; `trouble` is why it is missing or incomplete."""

    text: str
    trouble: Optional[str]
    driver: "protocol.Driver"


class Memory(NamedTuple):
    """(used, total) MiB of every GPU for which nvidia-smi reports them; empty if it did not answer in time."""

    sizes: Dict[int, Tuple[int, int]]
    driver: "protocol.Driver"
    loads: "List[protocol.GpuLoad]"


NOT_ASKED = Memory({}, "answers", [])


def memory(live: bool = False, share: float = NOTE_SHARE) -> Memory:
    """Ask for the memory of the GPUs, with `live` also for their load. While models run, the driver is loaded and
    answers at once; it is given this share of the patience."""
    settings = variables.pod_environment()
    [output] = ask([with_load(MEMORY) if live else MEMORY], settings, share=share)
    if live and output.driver == "fails":  # one field that this driver does not know, and it says nothing
        [output] = ask([MEMORY], settings, share=share)
    sizes = {}
    loads: "List[protocol.GpuLoad]" = []
    for line in output.text.splitlines():
        fields = [field.strip() for field in line.split(",", 8)]
        with contextlib.suppress(ValueError):
            index = int(fields[0])
            with contextlib.suppress(ValueError, IndexError):
                sizes[index] = (int(fields[1]), int(fields[2]))
            if live:
                loads.append(load(index, sizes.get(index), fields[3:]))
    return Memory(sizes, output.driver, loads)


def with_load(query: List[str]) -> List[str]:
    return [word + "," + LOAD_FIELDS if word.startswith("--query-gpu=") else word for word in query]


def load(index: int, memory: Optional[Tuple[int, int]], fields: List[str]) -> "protocol.GpuLoad":
    """Return the load of a GPU; None for what nvidia-smi does not know, e.g. `[N/A]` or `[GPU is lost]`."""
    fields = fields + [""] * (6 - len(fields))
    utilization, power, power_limit, temperature = (measured(field) for field in fields[:4])
    return {
        "id": index,
        "name": fields[5],
        "memory": list(memory) if memory else None,
        "utilization": utilization,
        "power": power,
        "power_limit": power_limit,
        "temperature": temperature,
        "mig": fields[4] == "Enabled",
    }


def measured(field: str) -> Optional[float]:
    return float(field) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", field) else None


def holders(questions: List[List[str]]) -> "protocol.Holders":
    """Ask `nvidia-smi` which processes hold memory; also return the PIDs of the models' processes."""
    settings = variables.pod_environment()
    ours = [process.pid for group in processes.marked().values() for process in group]
    return {"outputs": [output.text for output in ask(questions, settings)], "ours": ours}


def ask(
    commands: List[List[str]], settings: Dict[str, str], *, share: float = 1.0, only_with: str = ""
) -> List[Output]:
    """Run commands at once, for this share of the patience, and return their outputs.

    With the whole patience, pi is told when they take long. Without `only_with` in the output of the first command, the
    others are not waited for.
    """
    patience = float(settings.get("PI_DRIVER_PATIENCE", PATIENCE))
    began = time.monotonic()
    deadline = began + share * patience
    note = began + NOTE_SHARE * patience if share == 1.0 else deadline
    outputs: List[Output] = []
    for started in [start(command, settings) for command in commands]:
        if isinstance(started, Output):
            outputs.append(started)
            continue
        assert started.stdout is not None
        if outputs and only_with not in outputs[0].text:
            deadline = began
        begin, is_whole = home.read_until(started.stdout.fileno(), min(note, deadline))
        if not is_whole and note < deadline:
            wire.emit({"event": "driver-slow", "seconds": note - began, "limit": deadline - began})
            note = deadline
        output, is_whole = (b"", True) if is_whole else home.read_until(started.stdout.fileno(), deadline)
        outputs.append(ended(started, (begin + output).decode("utf-8", "replace"), is_whole, deadline - began))
    return outputs


def start(command: List[str], settings: Dict[str, str]) -> "Union[subprocess.Popen[bytes], Output]":
    """Start a command; return why it cannot be started if so."""
    import subprocess

    path = os.pathsep.join([settings.get("PATH", os.defpath), *NVIDIA_FOLDERS])
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(settings, PATH=path, LC_ALL="C"),
            start_new_session=True,
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        return Output("", "%s: %s" % (command[0], error.strerror), "missing" if missing else "fails")


def ended(process: "subprocess.Popen[bytes]", text: str, is_whole: bool, timeout: float) -> Output:
    """Return the output of a process that has closed it, or abandon the process."""
    program = str(process.args[0])  # type: ignore[index]
    if not is_whole or not home.wait_until(lambda: process.poll() is not None, min(1.0, timeout)):
        import signal

        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)  # without waiting: a process that hangs in a driver stays
        silence = "the driver does not answer: %s gave no answer within %.0f s" % (program, timeout)
        return Output(text, silence, "hangs")
    lines = text.strip().splitlines()
    failed = "%s failed: %s" % (program, lines[-1] if lines else "exit code %d" % process.returncode)
    return Output(text, failed, "fails") if process.returncode else Output(text, None, "answers")

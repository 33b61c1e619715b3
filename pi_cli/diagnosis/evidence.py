"""What a machine knows about a death that the log does not explain: whether the kernel has killed it, and why. Pure."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.diagnosis import known_machine
from pi_cli.diagnosis.death_evidence import DeathEvidence
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.diagnosis.causes import Cause

KILLED = 9  # the signal with which the kernel kills for lack of memory
OUT_OF_MEMORY = re.compile(r"[Oo]ut of memory: Kill|oom-kill:")
NOTHING_LEFT = 0.01  # of the machine's memory
ANOTHER = (
    "another process has sent the signal: see `pi ssh {pod} 'last -n 5; ps -ef'`, and whether the provider or a "
    "scheduler limits the container"
)


def lack_of_memory(death: DeathEvidence) -> str | None:
    """Return what shows that the host memory was used up; None if nothing does."""
    limit = f" (it may have {units.size(death.limit)})" if death.limit else ""
    if line_of(death):
        return "its log says so"
    if death.kills:
        return f"it has killed {_processes(death.kills)} of this container since the launch{limit}"
    if death.machine_kills:
        return f"it has killed {_processes(death.machine_kills)} of the machine since the launch"
    if death.total and death.least is not None and death.least < NOTHING_LEFT * death.total:
        return f"{units.size(death.least)} of {units.size(death.total)} were left"
    return None


def line_of(death: DeathEvidence) -> str | None:
    """Return the line of the kernel's log about a process that it killed for lack of memory."""
    return next((line for line in reversed(death.kernel) if OUT_OF_MEMORY.search(line)), None)


def is_excluded(death: DeathEvidence) -> bool:
    """Return whether the kernel surely killed nothing for lack of memory: it counts that."""
    return death.kills == 0 and death.machine_kills == 0


def refined(cause: "Cause", signal: int | None, death: DeathEvidence, pod: str) -> "Cause":
    """Return the cause of a death without an error message, with what the machine knows about it."""
    more_memory = fill(known_machine.MORE_HOST_MEMORY, pod=pod)
    if shown := lack_of_memory(death):
        summary = f"the kernel killed it for lack of host memory: {shown}"
        return replace(cause, summary=summary, line=line_of(death) or cause.line, hint=more_memory)
    if signal == KILLED and is_excluded(death):
        subject = cause.summary.partition(" was killed")[0]
        summary = f"{subject} was killed by signal 9, and not by the kernel for lack of memory"
        return replace(cause, summary=summary, hint=fill(ANOTHER, pod=pod))
    return cause


def remarks(death: DeathEvidence) -> str:
    """Return what else the kernel's log says: processes that crashed, GPUs that failed."""
    others = [line for line in death.kernel if not OUT_OF_MEMORY.search(line)]
    return f"the kernel's log: {others[-1]}" if others else ""


def _processes(count: int) -> str:
    return "a process" if count == 1 else f"{count} processes"

"""A start that failed, as the error that the user sees: the cause, vLLM's own words, and what to type next."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pi_cli.diagnosis import causes
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import GpuProcess, ModelNotStarted, NoRoom, PiError
from pi_cli.models import drift
from pi_cli.models.start_progress import Watching
from pi_cli.planning import refusal
from pi_cli.planning.plan import Plan
from pi_cli.pods.agent import AgentRefused
from pi_cli.pods.machine import Disk
from pi_cli.pods.nvidia import Holder
from pi_cli.store import state
from pi_cli.store.records import Storage

OF_THE_DISK = "No space left on device|Disk quota exceeded|Read-only file system"
OS_ERROR = re.compile(r"\[Errno \d+\] (?P<reason>[^:]*)(?:: '(?P<path>[^']*)'(?: -> '.*')?)?$")


def planned(typed: StartCommand, plan: Plan, pod: str) -> StartCommand:
    """Add to what was typed what pi made of it, and what the pod has."""
    return replace(typed, planned_arguments=plan.arguments, pod_gpus=len(state.load().pod(pod).gpus))


def died(model: str, watching: Watching, end: Mapping[str, Any], typed: StartCommand | None = None) -> ModelNotStarted:
    """Tell why vLLM died: with a known cause its line and the last few, otherwise the last twenty."""
    pod, log = watching.pod, watching.log
    cause = causes.find(log, pod=pod, model=model, command=typed)
    words = cause.summary if cause else causes.describe_end(end["code"], end["signal"])
    hint = cause.hint if cause else causes.hint_of_end(end["signal"], pod=pod)
    last = causes.last_lines(log, 5 if cause and cause.is_known else 20)
    kept = f"the whole log is on the pod: {watching.log_path}"
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: {words}",
        hint=f"{hint}; {kept}" if hint else kept,
        log=f"{cause.line}\n…\n{last}" if cause else last,
    )


def not_downloaded(pod: str, model: str, said: str, typed: StartCommand | None = None) -> ModelNotStarted:
    """Tell why `hf download` failed, by its own words."""
    cause = causes.find(said, pod=pod, model=model, command=typed)
    words = cause.summary if cause else "`hf download` failed"
    hint = cause.hint if cause else None
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {words}", hint=hint, log=causes.last_lines(said))


def not_written(pod: str, model: str, error: str) -> ModelNotStarted:
    """Tell why the pod could not even begin: a folder of pi's own, most often that of the logs, cannot be written."""
    read = OS_ERROR.search(error)
    reason, path = (read["reason"], read["path"]) if read else (error, None)
    if path is None:
        return ModelNotStarted(f"`{model}` did not start on `{pod}`: {reason}", hint=f"see with `pi ssh {pod}`")
    folder = path.rpartition("/")[0] or "/"
    look = ["df", "-h", folder] if re.match(OF_THE_DISK, reason) else ["ls", "-la", folder]
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: cannot write {path}: {reason}",
        hint=f"see what is there with `{shlex.join(['pi', 'ssh', pod, *look])}`",
    )


def held(error: NoRoom, pod: str, holders: Sequence[Holder]) -> NoRoom:
    """Name the processes on GPUs without a model that pi started, as far as nvidia-smi reports them."""
    named = tuple(gpu if gpu.models else gpu._replace(processes=_on(gpu.id, holders)) for gpu in error.held)
    return refusal.no_room(error.model, pod, named, share_left=error.share_left)


def _on(gpu: int, holders: Sequence[Holder]) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(holder.pid, holder.program, holder.used) for holder in holders if holder.gpu == gpu)


def require_volume(pod: str, recorded: Storage | None, found: Disk | None) -> None:
    """Raise `PiError` when the volume for models is not there: a download would fill the machine's own disk."""
    for difference in drift.of_storage(recorded, found, f"pi pods setup {pod}"):
        raise PiError(f"pod `{pod}`: {difference.text}", hint=difference.mend)


def not_mounted(pod: str, error: AgentRefused) -> PiError:
    """Turn the pod's own finding of the same into an error."""
    hint = f"mount it again, by the provider's means or with `pi pods setup {pod} --mount …`, and start again"
    return PiError(f"pod `{pod}`: {error.message}", hint=hint)


def no_room(pod: str, model: str, error: AgentRefused) -> ModelNotStarted:
    """Say that the disk is too small, or became full, and what could be deleted."""
    paths = error.facts["paths"]
    if paths:
        remove = shlex.join(["pi", "ssh", pod, "rm", "-rf", *paths])
        hint = f"delete what you no longer need, such as `{remove}` ({error.facts['frees']})"
    else:
        larger = f"pi pods setup {pod} --models-path /LARGER/DISK"
        hint = f"see what fills it with `pi ssh {pod} df -h`, or keep models on another disk with `{larger}`"
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {error.message}", hint=hint)

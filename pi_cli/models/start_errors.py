"""A start that failed, as the error that the user sees: the cause, vLLM's own words, and what to type next."""

import errno
from collections.abc import Sequence
from dataclasses import replace

from pi_cli import units
from pi_cli.diagnosis import causes
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import GpuProcess, ModelNotStarted, NoRoom, PiError
from pi_cli.hints import fill
from pi_cli.models import drift
from pi_cli.models.start_progress import Watching
from pi_cli.planning import refusal
from pi_cli.planning.plan import Plan
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.reports import Disk, StartEnd
from pi_cli.pods.wording import AgentRefused, Refusal
from pi_cli.store import state
from pi_cli.store.records import Storage

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def planned(command: StartCommand, plan: Plan, pod: str) -> StartCommand:
    """Add to the command what pi planned for it, and how many GPUs the pod has."""
    return replace(command, planned_arguments=plan.arguments, pod_gpus=len(state.load().pod(pod).gpus))


def died(model: str, watching: Watching, end: StartEnd, command: StartCommand | None = None) -> ModelNotStarted:
    """Tell why vLLM died: with a known cause its line and the last few, otherwise the last twenty."""
    pod, log = watching.pod, watching.log
    cause = causes.find(log, pod=pod, model=model, command=command)
    words = cause.summary if cause else causes.describe_end(end.code, end.signal)
    hint = cause.hint if cause else causes.hint_of_end(end.signal, pod=pod)
    last = causes.last_lines(log, 5 if cause and cause.is_known else 20)
    kept = f"the whole log is on the pod: {watching.log_path}"
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: {words}",
        hint=f"{hint}; {kept}" if hint else kept,
        log=f"{cause.line}\n…\n{last}" if cause else last,
    )


def refused(pod: str, plan: Plan, error: AgentRefused, command: StartCommand) -> PiError:
    """Turn the agent's refusal of a start into an error with something to do about it."""
    match error.code:
        case "name-taken":
            return name_taken(error.words)
        case "not-set-up":
            return error.with_hint(fill("prepare it with `pi pods setup {pod}`", pod=pod))
        case "vllm-too-old":
            vllm, has = plan.min_vllm or "release", ", ".join(error.refusal.names) or "none"
            hint = "get one with `pi pods setup {pod} --vllm {vllm}`; other versions that are there stay"
            return PiError(
                f"pod `{pod}`: the model needs vLLM {vllm} or newer, and the pod has {has}",
                hint=fill(hint, pod=pod, vllm=vllm),
            )
        case "gpus-taken":
            return NoRoom(error.message, hint="other clients start models there too: try again")
        case "download" | "hub-unreachable":
            return not_downloaded(pod, plan.model, error.words, planned(command, plan, pod))
        case "os":
            return not_written(pod, plan.model, error.refusal)
        case "not-mounted":
            hint = "mount it with `pi pods setup {pod} --mount COMMAND` or at the provider, and start again"
            return error.with_hint(fill(hint, pod=pod))
        case "no-room-on-disk":
            return no_room(pod, plan.model, error)
        case "environment":
            return error.with_hint(fill("see what it does with `pi ssh {pod} cat .pi/env`", pod=pod))
        case _:
            return error


def name_taken(message: str) -> PiError:
    return PiError(message, hint="choose another `--name`, or stop that one with `pi stop`")


def not_downloaded(pod: str, model: str, output: str, command: StartCommand | None = None) -> ModelNotStarted:
    """Say why `hf download` failed, in its own words."""
    cause = causes.find(output, pod=pod, model=model, command=command)
    words = cause.summary if cause else "`hf download` failed"
    hint = cause.hint if cause else None
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {words}", hint=hint, log=causes.last_lines(output))


def not_written(pod: str, model: str, refusal: Refusal) -> ModelNotStarted:
    """Say that the pod cannot write a folder of pi's own, most often that of the logs."""
    if not refusal.path:
        return ModelNotStarted(
            f"`{model}` did not start on `{pod}`: {refusal.reason}", hint=fill("look with `pi ssh {pod}`", pod=pod)
        )
    folder = refusal.path.rpartition("/")[0] or "/"
    look = ["df", "-h", folder] if refusal.errno in OF_THE_DISK else ["ls", "-la", folder]
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: cannot write {refusal.path}: {refusal.reason}",
        hint=fill("see what is there with `pi ssh {pod} {look}`", pod=pod, look=look),
    )


def no_room(pod: str, model: str, error: AgentRefused) -> ModelNotStarted:
    """Say that the disk is too small, or became full, and what could be deleted."""
    facts = error.refusal
    if facts.paths:
        remove = "delete what you no longer need, for example `pi ssh {pod} rm -rf {paths}` ({size})"
        hint = fill(remove, pod=pod, paths=facts.paths, size=units.size(facts.frees))
    else:
        see = "see what fills it with `pi ssh {pod} df -h`, or keep models on another disk with "
        hint = fill(see + "`pi pods setup {pod} --models-path /LARGER/DISK`", pod=pod)
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {error.words}", hint=hint)


def require_volume(pod: str, recorded: Storage | None, disk: Disk | None) -> None:
    """Raise `PiError` when the volume for models is not there: a download would fill the machine's own disk."""
    for difference in drift.of_storage(recorded, disk, ["pi", "pods", "setup", pod]):
        raise PiError(f"pod `{pod}`: {difference.text}", hint=difference.mend)


def held(error: NoRoom, pod: str, holders: Sequence[Holder]) -> NoRoom:
    """Name the processes on GPUs without a model that pi started, as far as nvidia-smi reports them."""
    named = tuple(gpu if gpu.models else gpu._replace(processes=_on(gpu.id, holders)) for gpu in error.held)
    return refusal.no_room(error.model, pod, named, share_left=error.share_left)


def _on(gpu: int, holders: Sequence[Holder]) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(holder.pid, holder.program, holder.used) for holder in holders if holder.gpu == gpu)

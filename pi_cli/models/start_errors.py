"""The errors of a failed start: the cause, lines of vLLM's log, and the command to type next."""

import errno
from collections.abc import Sequence
from dataclasses import replace

from pi_cli import units
from pi_cli.diagnosis import argument_errors, causes
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import BadUsage, GpuProcess, ModelNotStarted, NoRoom, PiError
from pi_cli.hints import fill
from pi_cli.models import drift
from pi_cli.models.start_progress import StartProgress
from pi_cli.planning import refusal
from pi_cli.planning.plan import Plan
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.reports import Disk, StartEnd
from pi_cli.pods.wording import AgentRefused, Refusal
from pi_cli.store import state
from pi_cli.store.records import Storage

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def planned(command: StartCommand, plan: Plan, pod: str) -> StartCommand:
    """Add the planned arguments and the pod's number of GPUs to a command."""
    return replace(command, planned_arguments=plan.arguments, pod_gpus=len(state.load().pod(pod).gpus))


def died(model: str, progress: StartProgress, end: StartEnd, command: StartCommand | None = None) -> ModelNotStarted:
    """Return the error for a vLLM that exited: for a known cause with its line and the last five, else the last 20."""
    pod, log = progress.pod, progress.log
    cause = causes.find(log, pod=pod, model=model, command=command)
    reason = cause.summary if cause else causes.describe_end(end.code, end.signal)
    hint = cause.hint if cause else causes.hint_of_end(end.signal, pod=pod)
    last = causes.last_lines(log, 5 if cause and cause.is_known else 20)
    log_hint = f"the whole log is on the pod: {progress.log_path}"
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: {reason}",
        hint=f"{hint}; {log_hint}" if hint else log_hint,
        log=f"{cause.line}\n…\n{last}" if cause else last,
    )


def refused(pod: str, plan: Plan, error: AgentRefused, command: StartCommand) -> PiError:
    """Turn the agent's refusal of a start into an error with a hint."""
    match error.code:
        case "arguments":
            return not_accepted(pod, plan, error.refusal, command)
        case "name-taken":
            return name_taken(error.explanation)
        case "vllm-too-old":
            vllm, installed = plan.min_vllm or "release", ", ".join(error.refusal.names) or "none"
            hint = "install one with `pi pods setup {pod} --vllm {vllm}`; the installed versions stay"
            return PiError(
                f"pod `{pod}`: the model needs vLLM {vllm} or newer, but the pod has {installed}",
                hint=fill(hint, pod=pod, vllm=vllm),
            )
        case "gpus-taken":
            return NoRoom(error.message, hint="other clients start models there too: try again")
        case "download" | "hub-unreachable":
            return not_downloaded(pod, plan.model, error.refusal, planned(command, plan, pod))
        case "os":
            return not_written(pod, plan.model, error.refusal)
        case "not-mounted":
            hint = "mount it with `pi pods setup {pod} --mount COMMAND` or at the provider, then start again"
            return error.with_hint(fill(hint, pod=pod))
        case "no-room-on-disk":
            return no_room(pod, plan.model, error)
        case _:
            return error


def not_accepted(pod: str, plan: Plan, refusal: Refusal, command: StartCommand) -> PiError:
    """Return the error for arguments that the pod's vLLM refuses: the user's own, or those that pi chose."""
    vllm = f"vLLM {refusal.name}" if refusal.name else "the vLLM"
    if plan.is_complete:
        return ModelNotStarted(
            f"`{plan.model}` did not start on `{pod}`: {vllm} there does not accept what pi chose: {refusal.reason}",
            hint=fill("install the current one with `pi pods setup {pod} --vllm release`, and start again", pod=pod),
        )
    rejection = argument_errors.explain(refusal.reason, command, options=refusal.options, pod=pod)
    return BadUsage(f"{vllm} on `{pod}` {rejection.problem}", hint=rejection.hint, excerpt=rejection.excerpt)


def name_taken(message: str) -> PiError:
    return PiError(message, hint="choose another `--name`, or stop that model with `pi stop`")


def not_downloaded(pod: str, model: str, refusal: Refusal, command: StartCommand) -> ModelNotStarted:
    """Return the error for a failed `hf download`."""
    output = refusal.reason
    cause = causes.find(output, pod=pod, model=model, command=command)
    if cause is None and refusal.code == "hub-unreachable":
        cause = causes.hub_unreachable(pod=pod)
    reason = cause.summary if cause else "`hf download` failed"
    hint = cause.hint if cause else None
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {reason}", hint=hint, log=causes.last_lines(output))


def not_written(pod: str, model: str, refusal: Refusal) -> ModelNotStarted:
    """Return the error for a folder of pi on the pod that cannot be written, usually that of the logs."""
    if not refusal.path:
        return ModelNotStarted(
            f"`{model}` did not start on `{pod}`: {refusal.reason}", hint=fill("log in with `pi ssh {pod}`", pod=pod)
        )
    folder = refusal.path.rpartition("/")[0] or "/"
    command = ["df", "-h", folder] if refusal.errno in DISK_ERRORS else ["ls", "-la", folder]
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: cannot write {refusal.path}: {refusal.reason}",
        hint=fill("check with `pi ssh {pod} {command}`", pod=pod, command=command),
    )


def no_room(pod: str, model: str, error: AgentRefused) -> ModelNotStarted:
    """Return the error for a disk that is too small or became full, with paths that could be deleted."""
    facts = error.refusal
    if facts.paths:
        template = "delete what you no longer need, for example `pi ssh {pod} rm -rf {paths}` ({size})"
        hint = fill(template, pod=pod, paths=facts.paths, size=units.size(facts.frees))
    else:
        template = (
            "see what fills it with `pi ssh {pod} df -h`, or keep models on another disk with "
            "`pi pods setup {pod} --models-path /LARGER/DISK`"
        )
        hint = fill(template, pod=pod)
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {error.explanation}", hint=hint)


def require_volume(pod: str, recorded: Storage | None, disk: Disk | None) -> None:
    """Raise `PiError` if the volume for models is missing: a download would fill the machine's own disk."""
    for difference in drift.of_storage(recorded, disk, ["pi", "pods", "setup", pod]):
        raise PiError(f"pod `{pod}`: {difference.text}", hint=difference.hint)


def held(error: NoRoom, pod: str, holders: Sequence[Holder]) -> NoRoom:
    """Add the processes on GPUs without a model of pi to the error, as far as nvidia-smi reports them."""
    named = tuple(gpu if gpu.models else gpu._replace(processes=_on(gpu.id, holders)) for gpu in error.held)
    return refusal.no_room(error.model, pod, named, share_left=error.share_left)


def _on(gpu: int, holders: Sequence[Holder]) -> tuple[GpuProcess, ...]:
    return tuple(GpuProcess(holder.pid, holder.program, holder.used) for holder in holders if holder.gpu == gpu)

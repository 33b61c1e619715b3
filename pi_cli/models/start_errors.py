"""The errors of a failed start: the cause, lines of vLLM's log, and the command to type next."""

import errno
from collections.abc import Sequence
from dataclasses import replace

from pi_cli import units
from pi_cli.diagnosis import argument_errors, causes, circumstances, evidence
from pi_cli.diagnosis.causes import Cause
from pi_cli.diagnosis.circumstances import Circumstances
from pi_cli.diagnosis.death_evidence import DeathEvidence
from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.errors import BadUsage, GpuProcess, ModelNotStarted, NoRoom, PiError
from pi_cli.hints import fill
from pi_cli.models import drift
from pi_cli.models.start_progress import StartProgress
from pi_cli.planning import gpu_types, refusal
from pi_cli.planning.plan import Plan
from pi_cli.pods import wording
from pi_cli.pods.nvidia import Holder
from pi_cli.pods.reports import Disk, StartEnd
from pi_cli.pods.wording import AgentRefused, Refusal
from pi_cli.store import state
from pi_cli.store.records import Pod, Storage
from pi_cli.vllm import abilities, vllm_arguments

ELSEWHERE = {"xet": "HF_XET_CACHE", "temporary": "TMPDIR"}
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Diagnosed(ModelNotStarted):
    """A model did not start, and pi has looked for the cause; without one, the log does not show it."""

    def __init__(
        self,
        message: str,
        *,
        hint: str | None,
        log: str,
        cause: Cause | None,
        found: Circumstances | None = None,
        death: DeathEvidence | None = None,
    ) -> None:
        facts = filter(None, (_worded(found) if found else "", evidence.remarks(death) if death else ""))
        super().__init__(message, hint=hint, log=log, facts="; ".join(facts))
        self.cause, self.circumstances = cause, found


def _worded(found: Circumstances) -> str:
    """Return how far a start had come, and the GPU memory then; empty if the log does not say it."""
    parts = [f"it failed while {found.phase}"] if found.phase else []
    if found.memory:
        parts.append(f"GPU memory: {'; '.join(found.memory)}")
    return "; ".join(parts)


def planned(command: StartCommand, plan: Plan, pod: str) -> StartCommand:
    """Add to a command the planned arguments, and what is known about the pod."""
    return on_pod(replace(command, planned_arguments=plan.arguments), state.load().pod(pod))


def on_pod(command: StartCommand, pod: Pod) -> StartCommand:
    """Add to a command what remedies depend on: the pod's GPUs, and which kernels can be chosen in its vLLM."""
    types = [gpu_types.recognise(gpu) for gpu in pod.gpus]
    known = [each.capability for each in types if each]
    options = {name for option in abilities.of(pod.vllm, pod.abilities).abilities.options for name in option.names}
    return replace(
        command,
        pod_gpus=len(pod.gpus),
        capability=min(known) if known and len(known) == len(types) else None,
        lacking=tuple(name for name in vllm_arguments.KERNELS if options and name not in options),
    )


def died(model: str, progress: StartProgress, end: StartEnd, command: StartCommand | None = None) -> Diagnosed:
    """Return the error for a vLLM that exited: for a known cause with its line and the last five, else the last 20."""
    pod, log = progress.pod, progress.log
    cause = causes.find(log, pod=pod, model=model, command=command)
    ended = cause or causes.of_end(end.code, end.signal, pod=pod)
    if end.death and (cause is None or cause.is_silent):
        ended = evidence.refined(ended, end.signal if cause is None else causes.signal_in(cause), end.death, pod)
        cause = ended if cause else None
    reason, hint = ended.summary, ended.hint
    last = causes.last_lines(log, 5 if cause and cause.is_known else 20)
    log_hint = f"the whole log is on the pod: {progress.log_path}"
    return Diagnosed(
        f"`{model}` did not start on `{pod}`: {reason}",
        hint=f"{hint}; {log_hint}" if hint else log_hint,
        log=f"{ended.line}\n…\n{last}" if ended.line else last,
        cause=cause,
        found=circumstances.find(log, cause.line if cause else ""),
        death=end.death,
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
            return no_room(pod, plan.model, error, command)
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


def not_downloaded(pod: str, model: str, refusal: Refusal, command: StartCommand) -> Diagnosed:
    """Return the error for a failed `hf download`."""
    output = refusal.reason
    cause = causes.find(output, pod=pod, model=model, command=command)
    if cause is None and refusal.code == "hub-unreachable":
        cause = causes.hub_unreachable(pod=pod)
    reason = cause.summary if cause else "`hf download` failed"
    hint = cause.hint if cause else None
    message = f"cannot download `{model}` to `{pod}`: {reason}"
    return Diagnosed(message, hint=hint, log=causes.last_lines(output), cause=cause)


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


def no_room(pod: str, model: str, error: AgentRefused, command: StartCommand) -> ModelNotStarted:
    """Return the error for a disk that is too small or became full, with paths that could be deleted.

    After hf has found a disk full, its words are shown, and what was found on each disk that it writes to.
    """
    facts = error.refusal
    disk = facts.full_disk
    if disk and disk.inodes == 0:
        template = "see which folders have many files: `pi ssh {pod} 'du --inodes -x -d 3 {path} | sort -n | tail'`"
        hint = fill(template, pod=pod, path=disk.path)
    elif disk and disk.place in ELSEWHERE:
        variable = f"{ELSEWHERE[disk.place]}=/LARGER/DISK"
        hint = fill("keep them on another disk: `{start}`", start=command.with_variables([variable]).argv)
        if disk.place == "xet":
            without = command.with_variables(["HF_HUB_DISABLE_XET=1"]).argv
            hint += fill("; or download without it: `{start}`", start=without)
    elif facts.paths:
        template = "delete what you no longer need, for example `pi ssh {pod} rm -rf {paths}` ({size})"
        hint = fill(template, pod=pod, paths=facts.paths, size=units.size(facts.frees))
    else:
        template = (
            "see what fills it with `pi ssh {pod} df -h`, or keep models on another disk with "
            "`pi pods setup {pod} --models-path /LARGER/DISK`"
        )
        hint = fill(template, pod=pod)
    looked = wording.looked_at(facts.disks)
    return ModelNotStarted(
        f"cannot download `{model}` to `{pod}`: {error.explanation}",
        hint=hint,
        log=causes.last_lines(facts.reason, 5),
        facts=f"looked at {looked}" if looked else "",
    )


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

"""A start that failed, as the error that the user sees: the cause, vLLM's own words, and what to type next."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pi_cli.errors import ModelNotStarted, NoRoom
from pi_cli.models import diagnosis, refusal
from pi_cli.models.plan import Plan
from pi_cli.models.remedies import Typed
from pi_cli.models.watching import Watching
from pi_cli.pods.nvidia import Holder
from pi_cli.store import state

OF_THE_DISK = "No space left on device|Disk quota exceeded|Read-only file system"
OS_ERROR = re.compile(r"\[Errno \d+\] (?P<reason>[^:]*)(?:: '(?P<path>[^']*)'(?: -> '.*')?)?$")


def planned(typed: Typed, plan: Plan, pod: str) -> Typed:
    """Add to what was typed what pi made of it, and what the pod has."""
    return replace(typed, planned=plan.arguments, there=len(state.load().pod(pod).gpus))


def died(model: str, watching: Watching, end: Mapping[str, Any], typed: Typed | None = None) -> ModelNotStarted:
    """Tell why vLLM died: with a known cause its line and the last few, otherwise the last twenty."""
    pod, log = watching.pod, watching.log
    cause = diagnosis.find_cause(log, pod=pod, model=model, typed=typed)
    words = cause.words if cause else diagnosis.describe_end(end["code"], end["signal"])
    hint = cause.hint if cause else diagnosis.hint_of_end(end["signal"], pod=pod)
    last = diagnosis.last_lines(log, 5 if cause and cause.is_known else 20)
    kept = f"the whole log is on the pod: {watching.log_path}"
    return ModelNotStarted(
        f"`{model}` did not start on `{pod}`: {words}",
        hint=f"{hint}; {kept}" if hint else kept,
        log=f"{cause.line}\n…\n{last}" if cause else last,
    )


def not_downloaded(pod: str, model: str, said: str, typed: Typed | None = None) -> ModelNotStarted:
    """Tell why `hf download` failed, by its own words."""
    cause = diagnosis.find_cause(said, pod=pod, model=model, typed=typed)
    words = cause.words if cause else "`hf download` failed"
    hint = cause.hint if cause else None
    return ModelNotStarted(f"cannot download `{model}` to `{pod}`: {words}", hint=hint, log=diagnosis.last_lines(said))


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


def held(error: NoRoom, pod: str, strangers: Sequence[Holder]) -> NoRoom:
    """Say who holds the memory of GPUs that pi has started nothing on, as far as nvidia-smi sees."""
    message, pids = error.message, list[int]()
    for gpu in error.unexplained:
        here = [each for each in strangers if each.gpu == gpu]
        if here:
            names = ", ".join(f"pid {each.pid} ({each.program}: {each.used:,} MiB)" for each in here)
            before, clause, after = message.partition(f"GPU {gpu}: ")
            message = before + clause + after.replace(refusal.NOBODY, names, 1)
        pids += [each.pid for each in here if each.pid not in pids]
    if not pids:
        return error
    kill = shlex.join(["pi", "ssh", pod, "kill", *map(str, pids)])
    return NoRoom(message, hint=f"end what you do not need with `{kill}`; or {error.hint}")

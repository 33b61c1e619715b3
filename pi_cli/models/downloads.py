"""Where a model goes on a pod, and what to do when it cannot: in the user's words."""

import shlex

from pi_cli.errors import ModelNotStarted, PiError
from pi_cli.models import drift
from pi_cli.pods.agent import AgentRefused
from pi_cli.pods.machine import Disk
from pi_cli.store.records import Storage


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

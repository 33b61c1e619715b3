"""Judge the catalogue's models against GPUs: whether each fits and how, and otherwise why not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pi_cli.planning import candidates, gpu_space, plan, quantisation, refusal, shortfall
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel

Status = Literal["fits", "tight", "no room", "no"]

NO_CONSTRAINTS = Constraints()


@dataclass(frozen=True, slots=True)
class CatalogueVerdict:
    """How a model fits GPUs. `plan` is set if it can be started; otherwise `reason` says why not, `brief` in short."""

    profile: KnownModel
    status: Status
    plan: Plan | None = None
    reason: str = ""
    brief: str = ""

    @property
    def model(self) -> str:
        return self.profile.id


def judge(profile: KnownModel, spaces: Sequence[GpuSpace], *, pod: str) -> CatalogueVerdict:
    """Judge a model as `pi start` would without any constraint. `spaces` must not be empty."""
    if plan.lacks_audio(profile):
        reason = "it is for speech, and the pod's vLLM has no libraries for sound (`vllm[audio]`)"
        return CatalogueVerdict(profile, "no", None, reason, "needs vllm[audio]")
    # The placement comes first: a refusal tries other hardware too, which takes long.
    if candidates.best(profile, NO_CONSTRAINTS, spaces):
        made = plan.make(profile, NO_CONSTRAINTS, spaces, pod=pod)
        return CatalogueVerdict(profile, "tight" if made.is_tight else "fits", made)
    emptied = gpu_space.emptied(spaces)
    if emptied != list(spaces) and candidates.best(profile, NO_CONSTRAINTS, emptied):
        no_room = refusal.no_room(profile.id, pod, gpu_space.held(spaces))
        return CatalogueVerdict(profile, "no room", None, no_room.message, _users(spaces))
    reason = refusal.reason(profile, NO_CONSTRAINTS, emptied)
    return CatalogueVerdict(profile, "no", None, reason, _brief(profile, emptied))


def _users(spaces: Sequence[GpuSpace]) -> str:
    names = dict.fromkeys(name for space in spaces for name in space.models)
    return f"used by {', '.join(f'`{name}`' for name in names) or 'other processes'}"


def _brief(profile: KnownModel, spaces: Sequence[GpuSpace]) -> str:
    """Return the reason of `refusal.reason` in a few words: `needs 154 GiB, has 73`."""
    lacking = shortfall.compute(profile, NO_CONSTRAINTS, spaces)
    if lacking is None:
        unmet = quantisation.unmet(profile.shape, spaces[0].capability, profile.vllm)
        return unmet.brief if unmet else "it cannot be split over these GPUs"
    if lacking.kv_cache > 0:
        return f"only {lacking.longest:,} tokens fit"
    needed = f"needs {(lacking.weights + lacking.overhead) * lacking.count:.0f} GiB"
    usable = f"{lacking.usable * lacking.count:.0f}"
    if lacking.count == len(spaces):
        return f"{needed}, has {usable}"
    return f"{needed}, {lacking.count} GPU{'s have' if lacking.count > 1 else ' has'} {usable}"

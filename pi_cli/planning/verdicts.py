"""What the catalogue's models come to on given GPUs: which fit, how, and of the others why not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pi_cli.planning import candidates, fit, plan, refusal, vllm_arguments
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import ModelProfile

Status = Literal["fits", "tight", "no room", "no"]

NO_CONSTRAINTS = Constraints()


@dataclass(frozen=True, slots=True)
class CatalogueVerdict:
    """A model against GPUs. `plan` is there if it can be started; else `reason` says why not, and `brief` in a few
    words."""

    profile: ModelProfile
    status: Status
    plan: Plan | None = None
    reason: str = ""
    brief: str = ""

    @property
    def model(self) -> str:
        return self.profile.id


def judge(profile: ModelProfile, spaces: Sequence[GpuSpace], *, pod: str) -> CatalogueVerdict:
    """Judge a model as `pi start` would without any constraints. There has to be a GPU."""
    if candidates.best(
        profile, NO_CONSTRAINTS, spaces
    ):  # asked first: a refusal looks for other hardware, which takes long
        made = plan.make(profile, NO_CONSTRAINTS, spaces, pod=pod)
        return CatalogueVerdict(profile, "tight" if made.is_tight else "fits", made)
    emptied = [replace(space, taken=0, models=()) for space in spaces]
    if emptied != list(spaces) and candidates.best(profile, NO_CONSTRAINTS, emptied):
        return CatalogueVerdict(profile, "no room", None, str(refusal.no_room(profile.id, spaces, pod)), _held(spaces))
    reason = refusal.reason(profile, NO_CONSTRAINTS, emptied)
    return CatalogueVerdict(profile, "no", None, reason, _lack(profile, emptied))


def _held(spaces: Sequence[GpuSpace]) -> str:
    names = dict.fromkeys(name for space in spaces for name in space.models)
    return f"held by {', '.join(f'`{name}`' for name in names) or 'others'}"


def _lack(profile: ModelProfile, spaces: Sequence[GpuSpace]) -> str:
    """Say in a few words what `refusal.reason` explains: `needs 154 GiB, has 73`."""
    assert profile.shape is not None
    ways = list(candidates.possible(profile, None, spaces))
    if not ways:
        kind = profile.shape.dtype.upper() if profile.shape.dtype in fit.NATIVE else "vLLM"
        return f"{kind} needs a newer GPU"
    way = max(ways, key=lambda way: sum(space.total for space in way.spaces[: way.count]))
    options = vllm_arguments.parse(way.arguments)
    found = fit.estimate(profile.shape, way.spaces[: way.count], options, candidates.measured(profile, way, options))
    if found.memory.kv_cache > 0:
        return f"only {found.longest or 0:,} tokens fit"
    needed = (found.memory.weights + found.memory.overhead) * way.count
    usable = f"{found.memory.total * options.memory * way.count:.0f}"
    if way.count == len(spaces):
        return f"needs {needed:.0f} GiB, has {usable}"
    return f"needs {needed:.0f} GiB, {way.count} GPU{'s have' if way.count > 1 else ' has'} {usable}"

"""What the catalogue's models come to on given GPUs: which fit, how, and of the others why not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pi_cli.planning import candidates, fit, plan, refusal, vllm_arguments
from pi_cli.planning.candidates import Wish
from pi_cli.planning.gpu_space import Room
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import Profile

Status = Literal["fits", "tight", "no room", "no"]

AS_IT_COMES = Wish()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A model against GPUs. `plan` is there if it can be started; else `reason` says why not, and `brief` in a few
    words."""

    profile: Profile
    status: Status
    plan: Plan | None = None
    reason: str = ""
    brief: str = ""

    @property
    def model(self) -> str:
        return self.profile.id


def of(profile: Profile, rooms: Sequence[Room], *, pod: str) -> Verdict:
    """Judge a model as `pi start` would without any wish. There has to be a GPU."""
    if candidates.best(
        profile, AS_IT_COMES, rooms
    ):  # asked first: a refusal looks for other hardware, which takes long
        made = plan.make(profile, AS_IT_COMES, rooms, pod=pod)
        return Verdict(profile, "tight" if made.is_tight else "fits", made)
    emptied = [replace(room, taken=0, models=()) for room in rooms]
    if emptied != list(rooms) and candidates.best(profile, AS_IT_COMES, emptied):
        return Verdict(profile, "no room", None, str(refusal.no_room(profile.id, rooms, pod)), _held(rooms))
    reason = refusal.why(profile, AS_IT_COMES, emptied)
    return Verdict(profile, "no", None, reason, _lack(profile, emptied))


def _held(rooms: Sequence[Room]) -> str:
    names = dict.fromkeys(name for room in rooms for name in room.models)
    return f"held by {', '.join(f'`{name}`' for name in names) or 'others'}"


def _lack(profile: Profile, rooms: Sequence[Room]) -> str:
    """Say in a few words what `refusal.why` explains: `needs 154 GiB, has 73`."""
    assert profile.shape is not None
    ways = list(candidates.of(profile, None, rooms))
    if not ways:
        kind = profile.shape.dtype.upper() if profile.shape.dtype in fit.NATIVE else "vLLM"
        return f"{kind} needs a newer GPU"
    way = max(ways, key=lambda way: sum(room.total for room in way.rooms[: way.count]))
    options = vllm_arguments.read(way.arguments)
    found = fit.estimate(profile.shape, way.rooms[: way.count], options, candidates.measured(profile, way, options))
    if found.memory.kv_cache > 0:
        return f"only {found.longest or 0:,} tokens fit"
    needed = (found.memory.weights + found.memory.overhead) * way.count
    usable = f"{found.memory.total * options.memory * way.count:.0f}"
    if way.count == len(rooms):
        return f"needs {needed:.0f} GiB, has {usable}"
    return f"needs {needed:.0f} GiB, {way.count} GPU{'s have' if way.count > 1 else ' has'} {usable}"

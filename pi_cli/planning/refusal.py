"""Say why a model cannot be started on a pod: the smallest reason, and what would do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pi_cli.errors import BadUsage, DoesNotFit, NoRoom, PiError
from pi_cli.planning import candidates, fit, gpu_space, gpu_types, vllm_arguments
from pi_cli.planning.candidates import Candidate, Wish
from pi_cli.planning.gpu_space import Room
from pi_cli.planning.profile import Profile

# What can be rented nearly everywhere, from small to large, and in which numbers.
RENTABLE = ("L4", "RTX 4090", "L40S", "A100", "H100", "H200", "B200")
NUMBERS = (1, 2, 4, 8)
NOBODY = "nothing that pi started"


def of(profile: Profile, wish: Wish, rooms: Sequence[Room], pod: str) -> PiError:
    """Return the error for a model that got no offer: others hold the room, or there can be none."""
    emptied = [replace(room, taken=0, models=()) for room in rooms]
    if any(room.taken or room.models for room in rooms) and candidates.best(profile, wish, emptied):
        return no_room(profile.id, rooms, pod)
    return DoesNotFit(
        f"`{profile.id}` does not fit `{pod}`: {why(profile, wish, emptied)}", hint=_instead(profile, wish, emptied)
    )


def no_room(model: str, rooms: Sequence[Room], pod: str, *, own_gpus: int = 0) -> NoRoom:
    """Return the error for GPUs that would do if nobody else were there; `own_gpus` are asked for after `--vllm`."""
    held = "; ".join(f"GPU {room.gpu.id}: {_held(room)}" for room in rooms if not room.is_free)
    names = list(dict.fromkeys(name for room in rooms for name in room.models))
    if names:
        hint = f"stop what is not needed with `pi stop {names[0]} --pod {pod}`, or start it with less `--memory`"
    else:
        hint = f"see what holds it with `pi ssh {pod} nvidia-smi`"
    _, most = gpu_space.roomiest(rooms, own_gpus)
    if own_gpus and most:
        hint = f"add `--gpu-memory-utilization {most:.2f}` after `--vllm`; or {hint}"
    strangers = tuple(room.gpu.id for room in rooms if not room.is_free and not room.models)
    return NoRoom(f"no room for `{model}` on `{pod}`: {held}", hint=hint, unexplained=strangers)


def no_gpus(pod: str) -> BadUsage:
    """Return the error for a pod on which no GPU is recorded."""
    return BadUsage(
        f"pod `{pod}` has no GPUs",
        hint=f"see what it has now with `pi pods --check`, and record it with `pi pods setup {pod}`, "
        "on a machine without any with `--cpu`",
    )


def why(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> str:
    """Return the smallest reason why a model fits no number of these GPUs, taking them as empty."""
    ways = list(candidates.of(profile, wish.gpus, rooms))
    if not ways:
        group = gpu_space.alike(rooms)[0]
        return _impossible(profile, wish, group)
    largest = max(ways, key=lambda way: sum(room.total for room in way.rooms[: way.count]))
    return _too_small(profile, wish, largest)


def would_fit(profile: Profile, wish: Wish) -> list[str]:
    """Return hardware that would do, as people say it: `2x H100`; for each kind of GPU the smallest number."""
    found = []
    for kind in RENTABLE:
        for number in NUMBERS:
            rooms = gpu_space.rooms(gpu_types.parse(f"{number}x {kind}"), {}, {})
            if candidates.best(profile, replace(wish, gpus=None), rooms):
                found.append(f"{number}x {kind}")
                break
    return found


def _held(room: Room) -> str:
    total = room.total / fit.MIB_PER_GIB
    by = " and ".join(f"`{name}`" for name in room.models) or NOBODY
    return f"{room.taken / fit.MIB_PER_GIB:.1f} of {total:.1f} GiB are held by {by}"


def _impossible(profile: Profile, wish: Wish, group: Sequence[Room]) -> str:
    numbers = [wish.gpus] if wish.gpus else range(1, len(group) + 1)
    reasons = [reason for number in numbers if (reason := candidates.impossible(profile, number, group[0]))]
    names = f"{len(group)}x {group[0].kind}"
    return f"{names}: {reasons[0]}" if reasons else f"there is no configuration for {names}"


def _too_small(profile: Profile, wish: Wish, way: Candidate) -> str:
    """Compare what the largest way has with what is needed."""
    assert profile.shape is not None
    rooms = way.rooms[: way.count]
    options = vllm_arguments.read(way.arguments)
    options = replace(options, memory=wish.memory or options.memory, context=wish.context or options.context)
    found = fit.estimate(profile.shape, rooms, options, candidates.measured(profile, way, options))
    usable = found.memory.total * options.memory
    names = f"{way.count}x {rooms[0].kind}"
    if found.memory.kv_cache <= 0:
        needs = f"its weights take {found.memory.weights:.1f} GiB"
        return f"{needs} of each GPU and running it about {found.memory.overhead:.1f}, of {usable:.1f} on {names}"
    left = f"{names} {'leaves' if way.count == 1 else 'leave'} {found.memory.kv_cache:.1f} GiB for its KV cache"
    return f"{left}, enough for {found.longest or 0:,} tokens of context"


def _instead(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> str:
    hints = list(_adjusted(profile, wish, rooms))
    if fitting := would_fit(profile, Wish(context=wish.context)):
        hints.append(f"it would fit {', '.join(fitting)}")
    hints.append(
        f"`pi models {profile.id}` has more" if profile.entry else "to try anyway, give vLLM's arguments after `--vllm`"
    )
    return "; ".join(hints)


def _adjusted(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> Iterator[str]:
    """Name the one wish without which it would fit."""
    for name, without in (
        ("context", replace(wish, context=None)),
        ("memory", replace(wish, memory=None)),
        ("gpus", replace(wish, gpus=None)),
    ):
        if without != wish and (offer := candidates.best(profile, without, rooms)):
            fits = f" {offer.fit.context}" if name == "context" and offer.fit.context else ""
            yield f"it fits with `--context{fits}`" if fits else f"it fits without `--{name}`"
            return

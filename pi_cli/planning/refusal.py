"""Say why a model cannot be started on a pod: the smallest reason, and what would do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pi_cli.errors import BadUsage, DoesNotFit, NoRoom, PiError
from pi_cli.planning import candidates, fit, gpu_space, gpu_types, vllm_arguments
from pi_cli.planning.candidates import Candidate, Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import ModelProfile

# What can be rented nearly everywhere, from small to large, and in which numbers.
RENTABLE = ("L4", "RTX 4090", "L40S", "A100", "H100", "H200", "B200")
NUMBERS = (1, 2, 4, 8)
NOBODY = "nothing that pi started"


def explain(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str) -> PiError:
    """Return the error for a model that got no offer: others hold the room, or there can be none."""
    emptied = [replace(space, taken=0, models=()) for space in spaces]
    if any(space.taken or space.models for space in spaces) and candidates.best(profile, constraints, emptied):
        return no_room(profile.id, spaces, pod)
    return DoesNotFit(
        f"`{profile.id}` does not fit `{pod}`: {reason(profile, constraints, emptied)}",
        hint=_instead(profile, constraints, emptied),
    )


def no_room(model: str, spaces: Sequence[GpuSpace], pod: str, *, own_gpus: int = 0) -> NoRoom:
    """Return the error for GPUs that would do if nobody else were there; `own_gpus` are asked for after `--vllm`."""
    held = "; ".join(f"GPU {space.gpu.id}: {_held(space)}" for space in spaces if not space.is_free)
    names = list(dict.fromkeys(name for space in spaces for name in space.models))
    if names:
        hint = f"stop what is not needed with `pi stop {names[0]} --pod {pod}`, or start it with less `--memory`"
    else:
        hint = f"see what holds it with `pi ssh {pod} nvidia-smi`"
    _, most = gpu_space.most_free(spaces, own_gpus)
    if own_gpus and most:
        hint = f"add `--gpu-memory-utilization {most:.2f}` after `--vllm`; or {hint}"
    strangers = tuple(space.gpu.id for space in spaces if not space.is_free and not space.models)
    return NoRoom(f"no room for `{model}` on `{pod}`: {held}", hint=hint, unexplained=strangers)


def no_gpus(pod: str) -> BadUsage:
    """Return the error for a pod on which no GPU is recorded."""
    return BadUsage(
        f"pod `{pod}` has no GPUs",
        hint=f"see what it has now with `pi pods --check`, and record it with `pi pods setup {pod}`, "
        "on a machine without any with `--cpu`",
    )


def reason(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace]) -> str:
    """Return the smallest reason why a model fits no number of these GPUs, taking them as empty."""
    ways = list(candidates.possible(profile, constraints.gpus, spaces))
    if not ways:
        group = gpu_space.by_type(spaces)[0]
        return _impossible(profile, constraints, group)
    largest = max(ways, key=lambda way: sum(space.total for space in way.spaces[: way.count]))
    return _too_small(profile, constraints, largest)


def would_fit(profile: ModelProfile, constraints: Constraints) -> list[str]:
    """Return hardware that would do, as people say it: `2x H100`; for each kind of GPU the smallest number."""
    found = []
    for kind in RENTABLE:
        for number in NUMBERS:
            spaces = gpu_space.measure(gpu_types.parse(f"{number}x {kind}"), {}, {})
            if candidates.best(profile, replace(constraints, gpus=None), spaces):
                found.append(f"{number}x {kind}")
                break
    return found


def _held(space: GpuSpace) -> str:
    total = space.total / fit.MIB_PER_GIB
    by = " and ".join(f"`{name}`" for name in space.models) or NOBODY
    return f"{space.taken / fit.MIB_PER_GIB:.1f} of {total:.1f} GiB are held by {by}"


def _impossible(profile: ModelProfile, constraints: Constraints, group: Sequence[GpuSpace]) -> str:
    numbers = [constraints.gpus] if constraints.gpus else range(1, len(group) + 1)
    reasons = [reason for number in numbers if (reason := candidates.impossible(profile, number, group[0]))]
    names = f"{len(group)}x {group[0].kind}"
    return f"{names}: {reasons[0]}" if reasons else f"there is no configuration for {names}"


def _too_small(profile: ModelProfile, constraints: Constraints, way: Candidate) -> str:
    """Compare what the largest way has with what is needed."""
    assert profile.shape is not None
    spaces = way.spaces[: way.count]
    options = vllm_arguments.parse(way.arguments)
    options = replace(
        options, memory=constraints.memory or options.memory, context=constraints.context or options.context
    )
    found = fit.estimate(profile.shape, spaces, options, candidates.measured(profile, way, options))
    usable = found.memory.total * options.memory
    names = f"{way.count}x {spaces[0].kind}"
    if found.memory.kv_cache <= 0:
        needs = f"its weights take {found.memory.weights:.1f} GiB"
        return f"{needs} of each GPU and running it about {found.memory.overhead:.1f}, of {usable:.1f} on {names}"
    left = f"{names} {'leaves' if way.count == 1 else 'leave'} {found.memory.kv_cache:.1f} GiB for its KV cache"
    return f"{left}, enough for {found.longest or 0:,} tokens of context"


def _instead(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace]) -> str:
    hints = list(_adjusted(profile, constraints, spaces))
    if fitting := would_fit(profile, Constraints(context=constraints.context)):
        hints.append(f"it would fit {', '.join(fitting)}")
    hints.append(
        f"`pi models {profile.id}` has more" if profile.entry else "to try anyway, give vLLM's arguments after `--vllm`"
    )
    return "; ".join(hints)


def _adjusted(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Iterator[str]:
    """Name the one constraints without which it would fit."""
    for name, without in (
        ("context", replace(constraints, context=None)),
        ("memory", replace(constraints, memory=None)),
        ("gpus", replace(constraints, gpus=None)),
    ):
        if without != constraints and (offer := candidates.best(profile, without, spaces)):
            fits = f" {offer.fit.context}" if name == "context" and offer.fit.context else ""
            yield f"it fits with `--context{fits}`" if fits else f"it fits without `--{name}`"
            return

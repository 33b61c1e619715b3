"""Why a model cannot be started on a pod: the smallest reason, and what would change it."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pi_cli.errors import BadUsage, DoesNotFit, HeldGpu, NoRoom, PiError
from pi_cli.hints import fill
from pi_cli.planning import candidates, fit, gpu_space, gpu_types, shortfall
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel
from pi_cli.planning.shortfall import Shortfall
from pi_cli.store.records import is_name

# What most providers rent out, from small to large, and in which numbers.
RENTABLE_GPUS = ("L4", "RTX 4090", "L40S", "A100", "H100", "H200", "B200")
RENTABLE_COUNTS = (1, 2, 4, 8)


def explain(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str) -> PiError:
    """Return the error for a model without a placement: `NoRoom` if it would fit the GPUs empty, else `DoesNotFit`."""
    emptied = gpu_space.emptied(spaces)
    if emptied != list(spaces) and candidates.best(profile, constraints, emptied):
        return no_room(profile.id, pod, gpu_space.held(spaces))
    if unmet := candidates.refused(profile, constraints, emptied):  # the user's own catalogue, or `--context`
        why = f"vLLM would not start with the arguments of its configuration: {unmet.reason}"
        return DoesNotFit(f"`{profile.id}` does not fit `{pod}`: {why}", hint=unmet.hint)
    return DoesNotFit(
        f"`{profile.id}` does not fit `{pod}`: {reason(profile, constraints, emptied)}",
        hint="; ".join(_alternatives(profile, constraints, emptied)),
    )


def no_room(model: str, pod: str, held: tuple[HeldGpu, ...], *, share_left: float = 0.0) -> NoRoom:
    """Return the error for GPUs that would be enough if they were free.

    With `share_left`, the hint says that the user's own arguments could request that share of the memory.
    """
    return NoRoom(
        f"no room for `{model}` on `{pod}`: {'; '.join(_usage(gpu) for gpu in held)}",
        hint="; or ".join(_ways_to_free(pod, held, share_left)),
        model=model,
        held=held,
        share_left=share_left,
    )


def no_gpus(pod: str) -> BadUsage:
    """Return the error for a pod on which no GPU is recorded."""
    return BadUsage(
        f"pod `{pod}` has no GPUs",
        hint=fill(
            "see what it has now with `pi pods --check`, and record it with `pi pods setup {pod}`; "
            "on a machine without GPUs, add `--cpu`",
            pod=pod,
        ),
    )


def reason(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> str:
    """Return the smallest reason why a model fits none of these GPUs, which are taken as empty."""
    lacking = shortfall.compute(profile, constraints, spaces)
    if lacking is None:
        return _impossible(profile, constraints, gpu_space.by_type(spaces)[0])
    return f"{_too_small(lacking)}{_why_not_more(profile, constraints, lacking, spaces)}"


def would_fit(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace] = ()) -> list[str]:
    """Return hardware that would be enough, e.g. `2x H100`: for each kind of GPU, the smallest number.

    More GPUs of the kind that a pod has (`spaces`) come first, then what has the least memory in all and, among equals,
    the older kind: it tends to be the cheapest, and nothing dearer is needed.
    """
    own = gpu_space.by_type(spaces)[0][0].kind if spaces else ""
    kinds = list(dict.fromkeys([own, *RENTABLE_GPUS])) if _is_rentable(own) else RENTABLE_GPUS
    enough: list[tuple[bool, int, int, str]] = []
    for age, kind in enumerate(kinds):
        if count := candidates.fewest(profile, constraints, _rentable(kind)):
            rented = next(number for number in RENTABLE_COUNTS if number >= count)
            enough.append((kind != own, rented * _gigabytes(kind), age, f"{rented}x {kind}"))
    return [hardware for *_, hardware in sorted(enough)]


def _gigabytes(kind: str) -> int:
    type = gpu_types.named(kind)
    return type.size if type else 0


def _is_rentable(kind: str) -> bool:
    """Return whether there are machines with several GPUs of a kind: not of slices, nor of a chip with one GPU."""
    type = gpu_types.named(kind)
    return type is not None and type.name == kind and not type.is_unified


@functools.cache
def _rentable(kind: str) -> Sequence[GpuSpace]:
    return gpu_space.measure(gpu_types.parse(f"{max(RENTABLE_COUNTS)}x {kind}"), {}, {})


def _usage(gpu: HeldGpu) -> str:
    used, total = gpu.used / fit.MIB_PER_GIB, gpu.total / fit.MIB_PER_GIB
    users = " and ".join(f"`{name}`" for name in gpu.models) or ", ".join(
        f"pid {process.pid} ({process.program}: {process.used:,} MiB)" for process in gpu.processes
    )
    return f"GPU {gpu.id}: {used:.1f} of {total:.1f} GiB are used by {users or 'processes that pi did not start'}"


def _ways_to_free(pod: str, held: Sequence[HeldGpu], share_left: float) -> Iterator[str]:
    pids = [str(process.pid) for gpu in held for process in gpu.processes]
    if pids:
        template = "stop the processes that you do not need with `pi ssh {pod} kill {pids}`"
        yield fill(template, pod=pod, pids=list(dict.fromkeys(pids)))
    if share_left:
        yield fill("add `--gpu-memory-utilization {share}` after `--vllm`", share=f"{share_left:.2f}")
    names = [name for gpu in held for name in gpu.models]
    if names:
        named = next(filter(is_name, names), "--all")  # a name that breaks pi's rule is in no command
        template = "stop what you do not need with `pi stop {name} --pod {pod}`, or start it with a smaller `--memory`"
        yield fill(template, name=named, pod=pod)
    else:
        yield fill("see what uses it with `pi ssh {pod} nvidia-smi`", pod=pod)


def _impossible(profile: KnownModel, constraints: Constraints, group: Sequence[GpuSpace]) -> str:
    counts = [constraints.gpus] if constraints.gpus else range(1, len(group) + 1)
    reasons = [reason for count in counts if (reason := candidates.impossible(profile, count, group[0]))]
    hardware = f"{len(group)}x {group[0].kind}"
    return f"{hardware}: {reasons[0]}" if reasons else f"there is no configuration for {hardware}"


def _why_not_more(profile: KnownModel, constraints: Constraints, lacking: Shortfall, spaces: Sequence[GpuSpace]) -> str:
    """Say why a model cannot use more of the GPUs that there are; empty if it can, or if the user limits them."""
    group = next(group for group in gpu_space.by_type(spaces) if group[0].kind == lacking.kind)
    if constraints.gpus or lacking.count == len(group):
        return ""
    why = candidates.impossible(profile, len(group), group[0])
    return f", and {why}" if why else f", and {len(group)} GPUs would not leave more"


def _too_small(lacking: Shortfall) -> str:
    hardware, is_one = f"{lacking.count}x {lacking.kind}", lacking.count == 1
    if lacking.kv_cache <= 0:
        offered = f"{hardware} {'offers' if is_one else 'offer'} {lacking.usable:.1f}{'' if is_one else ' each'}"
        needed = f"its weights take {lacking.weights:.1f} GiB of each GPU and running it about {lacking.overhead:.1f}"
        return f"{needed}, but {offered}"
    left = f"{hardware} {'leaves' if is_one else 'leave'} {lacking.kv_cache:.1f} GiB for its KV cache"
    return f"{left}, enough for {lacking.longest:,} tokens of context"


def _alternatives(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Iterator[str]:
    """Yield hints: which constraint to change, which hardware would be enough, and where to read more."""
    yield from _relaxed(profile, constraints, spaces)
    if hardware := would_fit(profile, Constraints(context=constraints.context), spaces):
        yield f"it would fit on {', '.join(hardware)}"
    if profile.entry:
        yield fill("see `pi models {model}` for more", model=profile.id)
    else:
        yield "to try anyway, give vLLM's arguments after `--vllm`"


def _relaxed(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Iterator[str]:
    """Name the first constraint without which the model would fit."""
    for name, relaxed in (
        ("context", replace(constraints, context=None)),
        ("memory", replace(constraints, memory=None)),
        ("gpus", replace(constraints, gpus=None)),
    ):
        if relaxed != constraints and (placement := candidates.best(profile, relaxed, spaces)):
            if name == "context" and placement.fit.context:
                yield fill("it fits with `--context {tokens}`", tokens=placement.fit.context)
            else:
                yield f"it fits without `--{name}`"
            return

"""Decide how to start a model: on which GPUs, with which vLLM arguments, and why. Pure: asks and touches nothing."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pi_cli.errors import BadUsage, DoesNotFit
from pi_cli.planning import candidates, fit, gpu_space, refusal, vllm_arguments
from pi_cli.planning.candidates import Offer, Wish
from pi_cli.planning.fit import Fit
from pi_cli.planning.gpu_space import Room
from pi_cli.planning.profile import Profile

# What is left to processors: larger models take minutes for an answer, and quantised ones want a GPU's kernels.
LARGEST_ON_CPU = 20e9  # bytes of weights
PLAIN = ("", "bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model will be started on one pod.

    `gpus` are ids and `kind` is what they are called; `memory` is the share that it takes of each, `beside` are the
    models that are on them already. `reasons` say why it is so, a line each; the first says it all. `is_complete`
    says that vLLM needs nothing from the Hub but the model itself: the user's own arguments may name other
    repositories. `files` is the size of the download in bytes, if the Hub was asked.
    """

    model: str
    gpus: tuple[int, ...]
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    memory: float | None = None
    beside: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    fit: Fit | None = None
    is_complete: bool = True
    min_vllm: str | None = None
    files: int | None = None

    @property
    def is_tight(self) -> bool:
        """Tell whether it cannot serve the whole context to several requests at once."""
        return self.fit is not None and self.fit.concurrency is not None and self.fit.concurrency < candidates.ROOMY


def make(profile: Profile, wish: Wish, rooms: Sequence[Room], *, pod: str, is_cpu: bool = False) -> Plan:
    """Plan a model for a pod with this room. Raises `DoesNotFit`, `NoRoom` or another `BadUsage`.

    On a CPU pod a model has no GPU: what its arguments say about parallelism is about processors.
    """
    _check(profile, wish, rooms, pod, is_cpu=is_cpu)
    if is_cpu:
        return _on_cpu(profile, wish, pod)
    if wish.own is not None:
        return _own(profile, wish.own, rooms, pod)
    if profile.shape is None:
        return _unmeasured(profile, wish, rooms, pod)
    best = candidates.best(profile, wish, rooms)
    if best is None:
        raise refusal.of(profile, wish, rooms, pod)
    return Plan(
        profile.id,
        tuple(room.gpu.id for room in best.rooms),
        best.arguments,
        best.candidate.environment,
        kind=best.rooms[0].kind,
        memory=best.memory,
        beside=_beside(best.rooms),
        reasons=tuple(_reasons(profile, wish, best, rooms)),
        fit=best.fit,
        min_vllm=profile.entry.min_vllm if profile.entry else None,
        files=profile.files,
    )


def command(plan: Plan, name: str, *, port: int, private: bool = False) -> str:
    """Return the command that is run on the pod, to be read and pasted; the key comes from VLLM_API_KEY."""
    settings = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, plan.gpus)), **plan.environment}
    host = "127.0.0.1" if private else "0.0.0.0"  # noqa: S104
    words = ["vllm", "serve", plan.model, "--served-model-name", name, "--host", host, "--port", str(port)]
    words += ["--middleware", "require_key.RequireKey", *plan.arguments]
    return " ".join([*(f"{key}={shlex.quote(value)}" for key, value in settings.items()), shlex.join(words)])


def _check(profile: Profile, wish: Wish, rooms: Sequence[Room], pod: str, *, is_cpu: bool) -> None:
    if wish.own is not None:
        vllm_arguments.refuse_ours(wish.own)
    if is_cpu:
        if wish.gpus or wish.memory:
            raise BadUsage(f"`{pod}` has no GPUs", hint="leave out `--gpus` and `--memory`")
        return
    if not rooms:
        raise refusal.no_gpus(pod)
    wanted = vllm_arguments.gpus_asked_for(wish.own) if wish.own is not None else wish.gpus or 1
    if wanted > len(rooms):
        hint = "lower `--tensor-parallel-size`" if wish.own is not None else "lower `--gpus`"
        raise BadUsage(
            f"`{profile.id}` is to use {wanted} GPUs and `{pod}` has {len(rooms)}",
            hint=f"{hint}, or choose another pod with `--pod`",
        )
    if wanted > 1 and any(room.is_slice for room in rooms):
        raise BadUsage(
            f"a model cannot use {wanted} MIG slices: CUDA shows a program only one",
            hint="choose a model that fits one slice, or have the GPUs taken out of MIG mode",
        )
    if wish.context and profile.max_context and wish.context > profile.max_context:
        raise BadUsage(
            f"the context of `{profile.id}` is at most {profile.max_context:,} tokens, "
            f"and {wish.context:,} are asked for",
            hint=f"leave out `--context`, or give `--context {profile.max_context}`",
        )


def _on_cpu(profile: Profile, wish: Wish, pod: str) -> Plan:
    if wish.own is not None:
        return Plan(profile.id, (), wish.own, reasons=("your own vLLM arguments, on the CPU",), is_complete=False)
    if profile.shape and (profile.shape.weights > LARGEST_ON_CPU or profile.shape.dtype not in PLAIN):
        what = f"{profile.shape.weights / 1e9:.1f} GB of weights in {profile.shape.dtype}"
        raise DoesNotFit(
            f"`{profile.id}` is for GPUs only, and `{pod}` is a CPU pod: {what}",
            hint="choose a small model that is not quantised, or to try anyway give your own arguments after `--vllm`",
        )
    context = str(wish.context) if wish.context else "auto"
    about = "the context you asked for" if wish.context else "the longest context that fits"
    own = (*candidates.features(profile), "--max-model-len", context)
    least = profile.entry.min_vllm if profile.entry else None
    return Plan(profile.id, (), own, reasons=(f"on the CPU, {about}",), min_vllm=least, files=profile.files)


def _own(profile: Profile, own: tuple[str, ...], rooms: Sequence[Room], pod: str) -> Plan:
    """Take the user's arguments as they are, and find GPUs that have the room they ask for."""
    options = vllm_arguments.read(own)
    for group in gpu_space.alike(rooms) if options.gpus > 1 else [list(rooms)]:
        chosen = gpu_space.least_used(group, options.gpus, options.memory)
        if chosen:
            break
    else:
        raise refusal.no_room(profile.id, rooms, pod, own_gpus=options.gpus)
    found = fit.estimate(profile.shape, chosen, options) if profile.shape else None
    reasons = ["your own vLLM arguments", f"{_gpus(chosen)}: as many as they ask for, those with the fewest models"]
    return Plan(
        profile.id,
        tuple(room.gpu.id for room in chosen),
        own,
        kind=chosen[0].kind,
        memory=options.memory,
        beside=_beside(chosen),
        reasons=tuple(reasons),
        fit=found,
        is_complete=False,
    )


def _unmeasured(profile: Profile, wish: Wish, rooms: Sequence[Room], pod: str) -> Plan:
    """Plan a model of which nothing is known: one GPU, or as many as asked for, and the context that vLLM finds."""
    count = wish.gpus or 1
    share = wish.memory or vllm_arguments.DEFAULT_MEMORY
    groups = gpu_space.alike(rooms) if count > 1 else [list(rooms)]
    chosen = next((found for group in groups if (found := gpu_space.least_used(group, count, share))), None)
    if chosen is None and wish.memory is None:
        chosen, share = gpu_space.roomiest(groups[0], count)
    if not chosen or share < gpu_space.LEAST_SHARE:
        raise refusal.no_room(profile.id, rooms, pod)
    own = ["--tensor-parallel-size", str(count)] if count > 1 else []
    if share != vllm_arguments.DEFAULT_MEMORY:
        own += ["--gpu-memory-utilization", f"{share:.2f}"]
    own += ["--max-model-len", str(wish.context or "auto")]
    why = f": {profile.unknown}" if profile.unknown else ""
    reasons = [f"not in the catalogue{why}", f"{_gpus(chosen)}: {'as you asked' if wish.gpus else 'nothing says more'}"]
    if not wish.context:
        reasons.append("the longest context that fits, which vLLM finds")
    return Plan(
        profile.id,
        tuple(room.gpu.id for room in chosen),
        tuple(own),
        kind=chosen[0].kind,
        memory=share,
        beside=_beside(chosen),
        reasons=tuple(reasons),
        files=profile.files,
    )


def _reasons(profile: Profile, wish: Wish, offer: Offer, rooms: Sequence[Room]) -> Iterator[str]:
    candidate, found = offer.candidate, offer.fit
    yield f"{candidate.origin}{_served(found)}"
    yield f"{_gpus(offer.rooms)}: {_why_these(wish, offer, rooms)}"
    if candidate.notes:
        yield candidate.notes
    if wish.context:
        yield f"--max-model-len {wish.context}: as you asked"
    elif "auto" in offer.arguments and found.context is not None:
        longest = profile.max_context
        full = f", of the {longest:,} that the model has" if longest and found.context < longest else ""
        yield f"--max-model-len auto: about {found.context:,} tokens fit{full}; vLLM takes the most that does"
    if wish.memory:
        yield f"--gpu-memory-utilization {offer.memory:.2f}: as you asked"
    elif offer.memory != vllm_arguments.read(candidate.arguments).memory:
        yield f"--gpu-memory-utilization {offer.memory:.2f}: what the others on these GPUs leave"
    if found.is_measured:
        yield "the memory it needs is what an earlier start here told"


def _why_these(wish: Wish, offer: Offer, rooms: Sequence[Room]) -> str:
    if wish.gpus:
        return "as many as you asked for"
    if offer.is_shared:
        names = _beside(offer.rooms)
        return f"no free GPUs are left; shared with {', '.join(f'`{name}`' for name in names) or 'somebody else'}"
    count = len(offer.rooms)
    if offer.fit.concurrency is None:
        return "the fewest for which there is a configuration"
    if offer.is_roomy:
        return f"the fewest that serve its context to {candidates.ROOMY:.0f} requests or more at once"
    more = sum(room.is_free for room in rooms) > count
    return "more would not serve a longer context" if more else "the longest context that these GPUs can serve"


def _served(found: Fit) -> str:
    """Write what is expected: `: 131,072 tokens of context, about 4.6 requests of it at once`."""
    if found.context is None or found.concurrency is None:
        return ""
    return f": {found.context:,} tokens of context, about {found.concurrency:.1f} requests of it at once"


def _gpus(rooms: Sequence[Room]) -> str:
    ids = ", ".join(str(room.gpu.id) for room in rooms)
    return f"{gpu_space.kinds(rooms)} (GPU {ids})"


def _beside(rooms: Sequence[Room]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for room in rooms for name in room.models))

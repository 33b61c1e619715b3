"""Decide how to start a model: on which GPUs, with which vLLM arguments, and why. Pure: asks and touches nothing."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pi_cli.errors import BadUsage, DoesNotFit
from pi_cli.planning import candidates, fit, gpu_space, refusal, vllm_arguments
from pi_cli.planning.candidates import Constraints, Placement
from pi_cli.planning.fit import MemoryFit
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import ModelProfile

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
    fit: MemoryFit | None = None
    is_complete: bool = True
    min_vllm: str | None = None
    files: int | None = None

    @property
    def is_tight(self) -> bool:
        """Tell whether it cannot serve the whole context to several requests at once."""
        return (
            self.fit is not None
            and self.fit.concurrency is not None
            and self.fit.concurrency < candidates.AMPLE_CONCURRENCY
        )


def make(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], *, pod: str, is_cpu: bool = False
) -> Plan:
    """Plan a model for a pod with this room. Raises `DoesNotFit`, `NoRoom` or another `BadUsage`.

    On a CPU pod a model has no GPU: what its arguments say about parallelism is about processors.
    """
    _check(profile, constraints, spaces, pod, is_cpu=is_cpu)
    if is_cpu:
        return _on_cpu(profile, constraints, pod)
    if constraints.own_arguments is not None:
        return _own(profile, constraints.own_arguments, spaces, pod)
    if profile.shape is None:
        return _unmeasured(profile, constraints, spaces, pod)
    best = candidates.best(profile, constraints, spaces)
    if best is None:
        raise refusal.explain(profile, constraints, spaces, pod)
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in best.spaces),
        best.arguments,
        best.candidate.environment,
        kind=best.spaces[0].kind,
        memory=best.memory,
        beside=_beside(best.spaces),
        reasons=tuple(_reasons(profile, constraints, best, spaces)),
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


def _check(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str, *, is_cpu: bool
) -> None:
    if constraints.own_arguments is not None:
        vllm_arguments.refuse_options_of_pi(constraints.own_arguments)
    if is_cpu:
        if constraints.gpus or constraints.memory:
            raise BadUsage(f"`{pod}` has no GPUs", hint="leave out `--gpus` and `--memory`")
        return
    if not spaces:
        raise refusal.no_gpus(pod)
    wanted = (
        vllm_arguments.gpus_requested(constraints.own_arguments)
        if constraints.own_arguments is not None
        else constraints.gpus or 1
    )
    if wanted > len(spaces):
        hint = "lower `--tensor-parallel-size`" if constraints.own_arguments is not None else "lower `--gpus`"
        raise BadUsage(
            f"`{profile.id}` is to use {wanted} GPUs and `{pod}` has {len(spaces)}",
            hint=f"{hint}, or choose another pod with `--pod`",
        )
    if wanted > 1 and any(space.is_slice for space in spaces):
        raise BadUsage(
            f"a model cannot use {wanted} MIG slices: CUDA shows a program only one",
            hint="choose a model that fits one slice, or have the GPUs taken out of MIG mode",
        )
    if constraints.context and profile.max_context and constraints.context > profile.max_context:
        raise BadUsage(
            f"the context of `{profile.id}` is at most {profile.max_context:,} tokens, "
            f"and {constraints.context:,} are asked for",
            hint=f"leave out `--context`, or give `--context {profile.max_context}`",
        )


def _on_cpu(profile: ModelProfile, constraints: Constraints, pod: str) -> Plan:
    if constraints.own_arguments is not None:
        return Plan(
            profile.id,
            (),
            constraints.own_arguments,
            reasons=("your own vLLM arguments, on the CPU",),
            is_complete=False,
        )
    if profile.shape and (profile.shape.weights > LARGEST_ON_CPU or profile.shape.dtype not in PLAIN):
        what = f"{profile.shape.weights / 1e9:.1f} GB of weights in {profile.shape.dtype}"
        raise DoesNotFit(
            f"`{profile.id}` is for GPUs only, and `{pod}` is a CPU pod: {what}",
            hint="choose a small model that is not quantised, or to try anyway give your own arguments after `--vllm`",
        )
    context = str(constraints.context) if constraints.context else "auto"
    about = "the context you asked for" if constraints.context else "the longest context that fits"
    own = (*candidates.features(profile), "--max-model-len", context)
    least = profile.entry.min_vllm if profile.entry else None
    return Plan(profile.id, (), own, reasons=(f"on the CPU, {about}",), min_vllm=least, files=profile.files)


def _own(profile: ModelProfile, own: tuple[str, ...], spaces: Sequence[GpuSpace], pod: str) -> Plan:
    """Take the user's arguments as they are, and find GPUs that have the room they ask for."""
    options = vllm_arguments.parse(own)
    for group in gpu_space.by_type(spaces) if options.gpus > 1 else [list(spaces)]:
        chosen = gpu_space.least_used(group, options.gpus, options.memory)
        if chosen:
            break
    else:
        raise refusal.no_room(profile.id, spaces, pod, own_gpus=options.gpus)
    found = fit.estimate(profile.shape, chosen, options) if profile.shape else None
    reasons = ["your own vLLM arguments", f"{_gpus(chosen)}: as many as they ask for, those with the fewest models"]
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in chosen),
        own,
        kind=chosen[0].kind,
        memory=options.memory,
        beside=_beside(chosen),
        reasons=tuple(reasons),
        fit=found,
        is_complete=False,
    )


def _unmeasured(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str) -> Plan:
    """Plan a model of which nothing is known: one GPU, or as many as asked for, and the context that vLLM finds."""
    count = constraints.gpus or 1
    share = constraints.memory or vllm_arguments.DEFAULT_MEMORY
    groups = gpu_space.by_type(spaces) if count > 1 else [list(spaces)]
    chosen = next((found for group in groups if (found := gpu_space.least_used(group, count, share))), None)
    if chosen is None and constraints.memory is None:
        chosen, share = gpu_space.most_free(groups[0], count)
    if not chosen or share < gpu_space.LEAST_SHARE:
        raise refusal.no_room(profile.id, spaces, pod)
    own = ["--tensor-parallel-size", str(count)] if count > 1 else []
    if share != vllm_arguments.DEFAULT_MEMORY:
        own += ["--gpu-memory-utilization", f"{share:.2f}"]
    own += ["--max-model-len", str(constraints.context or "auto")]
    why = f": {profile.unknown}" if profile.unknown else ""
    reasons = [
        f"not in the catalogue{why}",
        f"{_gpus(chosen)}: {'as you asked' if constraints.gpus else 'nothing says more'}",
    ]
    if not constraints.context:
        reasons.append("the longest context that fits, which vLLM finds")
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in chosen),
        tuple(own),
        kind=chosen[0].kind,
        memory=share,
        beside=_beside(chosen),
        reasons=tuple(reasons),
        files=profile.files,
    )


def _reasons(
    profile: ModelProfile, constraints: Constraints, offer: Placement, spaces: Sequence[GpuSpace]
) -> Iterator[str]:
    candidate, found = offer.candidate, offer.fit
    yield f"{candidate.origin}{_served(found)}"
    yield f"{_gpus(offer.spaces)}: {_why_these(constraints, offer, spaces)}"
    if candidate.notes:
        yield candidate.notes
    if constraints.context:
        yield f"--max-model-len {constraints.context}: as you asked"
    elif "auto" in offer.arguments and found.context is not None:
        longest = profile.max_context
        full = f", of the {longest:,} that the model has" if longest and found.context < longest else ""
        yield f"--max-model-len auto: about {found.context:,} tokens fit{full}; vLLM takes the most that does"
    if constraints.memory:
        yield f"--gpu-memory-utilization {offer.memory:.2f}: as you asked"
    elif offer.memory != vllm_arguments.parse(candidate.arguments).memory:
        yield f"--gpu-memory-utilization {offer.memory:.2f}: what the others on these GPUs leave"
    if found.is_measured:
        yield "the memory it needs is what an earlier start here told"


def _why_these(constraints: Constraints, offer: Placement, spaces: Sequence[GpuSpace]) -> str:
    if constraints.gpus:
        return "as many as you asked for"
    if offer.is_shared:
        names = _beside(offer.spaces)
        return f"no free GPUs are left; shared with {', '.join(f'`{name}`' for name in names) or 'somebody else'}"
    count = len(offer.spaces)
    if offer.fit.concurrency is None:
        return "the fewest for which there is a configuration"
    if offer.is_roomy:
        return f"the fewest that serve its context to {candidates.AMPLE_CONCURRENCY:.0f} requests or more at once"
    more = sum(space.is_free for space in spaces) > count
    return "more would not serve a longer context" if more else "the longest context that these GPUs can serve"


def _served(found: MemoryFit) -> str:
    """Write what is expected: `: 131,072 tokens of context, about 4.6 requests of it at once`."""
    if found.context is None or found.concurrency is None:
        return ""
    return f": {found.context:,} tokens of context, about {found.concurrency:.1f} requests of it at once"


def _gpus(spaces: Sequence[GpuSpace]) -> str:
    ids = ", ".join(str(space.gpu.id) for space in spaces)
    return f"{gpu_space.kinds(spaces)} (GPU {ids})"


def _beside(spaces: Sequence[GpuSpace]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for space in spaces for name in space.models))

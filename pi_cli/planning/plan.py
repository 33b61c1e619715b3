"""Decide how to start a model: on which GPUs, with which vLLM arguments, and why. Pure: it contacts nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pi_cli.errors import BadUsage, DoesNotFit
from pi_cli.hints import fill
from pi_cli.planning import candidates, expectation, fit, gpu_space, origins, purposes, quantisation, refusal
from pi_cli.planning.candidates import Constraints, Placement
from pi_cli.planning.fit import Memory, MemoryFit
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel, ModelProfile, UnknownModel
from pi_cli.vllm import serve_options, vllm_arguments
from pi_cli.vllm.kinds import POOLED, Kind

if TYPE_CHECKING:
    from agent import protocol

# What a CPU can serve: larger models take minutes for an answer, and quantised ones need a GPU's kernels.
MAX_CPU_WEIGHTS = 20e9  # bytes
UNQUANTISED_TYPES = ("", "bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model will be started on one pod.

    `gpus` are ids and `kind` is the name of their type. `memory` is the share that the model takes of each, and
    `beside` are the models that already run on them. `reasons` explain the plan, a line each, the most important first.
    `obstacles` are what vLLM will refuse in the user's own arguments, if our estimate of the memory is right.
    `is_complete`: vLLM needs nothing from the Hub but the model itself, whereas the user's own arguments may name other
    repositories. `files` is the size of the download in bytes, if the Hub was asked. `purpose`: what the model is for.
    `origins` says of each argument where it comes from.
    """

    model: str
    gpus: tuple[int, ...]
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    memory: float | None = None
    beside: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    fit: MemoryFit | None = None
    is_complete: bool = True
    min_vllm: str | None = None
    files: int | None = None
    purpose: Kind = "generation"
    origins: "tuple[protocol.Origin, ...]" = ()

    @property
    def is_tight(self) -> bool:
        """Return whether the model cannot serve its full context to several requests at once."""
        return self.fit is not None and self.fit.is_tight


def make(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], *, pod: str, is_cpu: bool = False
) -> Plan:
    """Plan a model for a pod with these GPUs. Raises `DoesNotFit`, `NoRoom` or another `BadUsage`.

    On a CPU pod, a model uses no GPU: what its arguments say about parallelism is about processors.
    """
    made = _make(profile, constraints, spaces, pod, is_cpu=is_cpu)
    locked = constraints.locked
    return replace(
        made,
        environment=made.environment | dict(locked.variables if locked else ()) | dict(constraints.environment),
        min_vllm=made.min_vllm or (locked.vllm if locked else None),
        origins=origins.of(profile, constraints, made.arguments, gpus=len(made.gpus)),
    )


def _make(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str, *, is_cpu: bool
) -> Plan:
    _check(profile, constraints, spaces, pod, is_cpu=is_cpu)
    if is_cpu:
        return _on_cpu(profile, constraints, pod)
    if constraints.own_arguments is not None:
        return _with_own_arguments(profile, constraints, spaces, pod)
    if isinstance(profile, UnknownModel):
        return _of_unknown_model(profile, constraints, spaces, pod)
    best = candidates.best(profile, constraints, spaces)
    if best is None:
        raise refusal.explain(profile, constraints, spaces, pod)
    arguments, remarks = serve_options.known(best.arguments, profile.vllm, pod)
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in best.spaces),
        arguments,
        best.candidate.environment,
        kind=best.spaces[0].kind,
        memory=best.memory,
        beside=_beside(best.spaces),
        reasons=(*_reasons(profile, constraints, best, spaces, pod), *remarks),
        fit=best.fit,
        min_vllm=profile.needed_vllm,
        files=profile.files,
        purpose=profile.kind,
    )


def _check(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str, *, is_cpu: bool
) -> None:
    """Refuse what no placement could change."""
    own = constraints.own_arguments
    if isinstance(profile, KnownModel):
        _check_audio(profile, pod)
    if own is not None:
        vllm_arguments.refuse_options_of_pi(own)
    if is_cpu:
        if constraints.gpus or constraints.memory:
            raise BadUsage(f"`{pod}` has no GPUs", hint="leave out `--gpus` and `--memory`")
        expectation.check(profile, own or (), None)
        return
    if not spaces:
        raise refusal.no_gpus(pod)
    requested = vllm_arguments.gpus_requested(own) // constraints.stages if own is not None else constraints.gpus or 1
    if requested > len(spaces):
        option = "--tensor-parallel-size" if own is not None else "--gpus"
        raise BadUsage(
            f"`{profile.id}` needs {requested} GPUs, but `{pod}` has {len(spaces)}",
            hint=f"lower `{option}`, or choose another pod with `--pod`",
        )
    if requested > 1 and any(space.is_slice for space in spaces):
        raise BadUsage(
            f"a model cannot use {requested} MIG slices: CUDA shows a program only one",
            hint="choose a model that fits one slice, or have MIG turned off on the GPUs",
        )
    if own is not None and constraints.locked is None:  # those of a lock have run on such GPUs
        expectation.check(profile, own, spaces[0] if len({space.kind for space in spaces}) == 1 else None)
    if isinstance(profile, KnownModel):
        _check_context(profile, constraints.context)


def lacks_audio(profile: KnownModel) -> bool:
    """Return whether a model is for speech, and the pod's vLLM said that it cannot read sound."""
    return profile.kind == "speech" and profile.vllm.is_own and profile.vllm.abilities.audio is False


def _check_audio(profile: KnownModel, pod: str) -> None:
    if lacks_audio(profile):
        raise BadUsage(
            f"`{profile.id}` is a model for speech, and the vLLM of `{pod}` has no libraries for sound",
            hint=fill("install them with `pi pods setup {pod} --vllm {package}`", pod=pod, package="vllm[audio]"),
        )


def _check_context(profile: KnownModel, context: int | None) -> None:
    longest = profile.max_context
    if context and longest and context > longest:
        raise BadUsage(
            f"`{profile.id}` supports at most {longest:,} tokens of context, {context:,} requested",
            hint=fill("leave out `--context`, or give `--context {longest}`", longest=longest),
        )


def _on_cpu(profile: ModelProfile, constraints: Constraints, pod: str) -> Plan:
    if constraints.own_arguments is not None:
        reasons = (f"{_whose(constraints)}, on the CPU", *constraints.remarks)
        return Plan(profile.id, (), constraints.own_arguments, reasons=reasons, is_complete=False)
    context = (*_stages(constraints), "--max-model-len", str(constraints.context or "auto"))
    reason = f"on the CPU, {'the context you asked for' if constraints.context else 'the longest context that fits'}"
    if isinstance(profile, UnknownModel):
        return Plan(profile.id, (), context, reasons=(reason, *profile.notes), files=profile.files)
    shape = profile.shape
    if shape.weights > MAX_CPU_WEIGHTS or shape.dtype not in UNQUANTISED_TYPES:
        size = f"{shape.weights / 1e9:.1f} GB of weights in {shape.dtype}"
        raise DoesNotFit(
            f"`{profile.id}` is for GPUs only, and `{pod}` is a CPU pod: {size}",
            hint="choose a small model that is not quantised; to try anyway, give your own arguments after `--vllm`",
        )
    arguments, remarks = serve_options.known((*candidates.features(profile), *context), profile.vllm, pod)
    why = (reason, *profile.notes, *remarks)
    return Plan(profile.id, (), arguments, reasons=why, min_vllm=profile.needed_vllm, files=profile.files)


def _stages(constraints: Constraints) -> tuple[str, ...]:
    """Return the argument that divides the layers among pods."""
    return (vllm_arguments.PIPELINE_PARALLEL[0], str(constraints.stages)) if constraints.stages > 1 else ()


def _whose(constraints: Constraints) -> str:
    return "the vLLM arguments of the lock" if constraints.locked else "your own vLLM arguments"


def _with_own_arguments(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str) -> Plan:
    """Pass the user's arguments on unchanged, and choose GPUs that have the memory they ask for."""
    arguments = constraints.own_arguments or ()
    options = vllm_arguments.parse(arguments)
    count = max(1, options.gpus // constraints.stages)
    groups = gpu_space.by_type(spaces) if count > 1 else [list(spaces)]
    chosen = _least_used(groups, count, options.memory)
    if chosen is None:
        _, share_left = gpu_space.most_free(spaces, count)
        raise refusal.no_room(profile.id, pod, gpu_space.held(spaces), share_left=share_left)
    is_proven = constraints.locked is not None  # on such GPUs: no estimate refuses what has run
    expected = expectation.Expectation() if is_proven else expectation.expect(profile, arguments, chosen)
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in chosen),
        arguments,
        kind=chosen[0].kind,
        memory=options.memory,
        beside=_beside(chosen),
        reasons=(
            _whose(constraints),
            f"{_gpus(chosen)}: as many as they ask for, those with the fewest models",
            *expected.remarks,
            *constraints.remarks,
        ),
        obstacles=expected.obstacles,
        fit=expected.fit,
        is_complete=False,
    )


def _of_unknown_model(profile: UnknownModel, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str) -> Plan:
    """Plan one GPU, or as many as requested, and leave the context to vLLM."""
    count = constraints.gpus or 1
    share = constraints.memory or gpu_space.default_share(spaces)
    groups = gpu_space.by_type(spaces) if count > 1 else [list(spaces)]
    chosen = _least_used(groups, count, share)
    if chosen is None and constraints.memory is None:
        chosen, share = gpu_space.most_free(groups[0], count)
    if not chosen or share < gpu_space.MIN_SHARE:
        raise refusal.no_room(profile.id, pod, gpu_space.held(spaces))
    arguments = [*(["--tensor-parallel-size", str(count)] if count > 1 else []), *_stages(constraints)]
    if share != vllm_arguments.DEFAULT_MEMORY:
        arguments += ["--gpu-memory-utilization", f"{share:.2f}"]
    arguments += ["--max-model-len", str(constraints.context or "auto")]
    unknown = f": {profile.reason}" if profile.reason else ""
    why_these = "as you asked" if constraints.gpus else "its size is unknown"
    reasons = [f"not in the catalogue{unknown}", f"{_gpus(chosen)}: {why_these}"]
    if not constraints.context:
        reasons.append("the longest context that fits: vLLM determines it")
    if not constraints.memory and chosen[0].is_unified:
        reasons.append(_share_of_unified_memory(share))
    reasons += profile.notes
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in chosen),
        tuple(arguments),
        kind=chosen[0].kind,
        memory=share,
        beside=_beside(chosen),
        reasons=tuple(reasons),
        files=profile.files,
    )


def _least_used(groups: Sequence[Sequence[GpuSpace]], count: int, share: float) -> list[GpuSpace] | None:
    """Return GPUs of the first group that has enough of them with this share free."""
    return next((chosen for group in groups if (chosen := gpu_space.least_used(group, count, share))), None)


def _reasons(
    profile: KnownModel, constraints: Constraints, placement: Placement, spaces: Sequence[GpuSpace], pod: str
) -> Iterator[str]:
    candidate, memory_fit = placement.candidate, placement.fit
    yield f"{candidate.origin}{_expected(memory_fit, profile)}"
    yield f"{_gpus(placement.spaces)}: {_why_these(constraints, placement, spaces, profile)}"
    yield from purposes.notes(profile, placement.arguments)
    if candidate.notes:
        yield candidate.notes
    yield from profile.notes
    has_kv_cache = profile.kind not in POOLED or memory_fit.concurrency is not None
    if profile.unknown and has_kv_cache:
        yield profile.unknown
    if memory_fit.concurrency is None and has_kv_cache:
        yield f"how much context fits is not known: {_left_for_unknown_cache(memory_fit.memory)}"
    first = placement.spaces[0]
    yield from quantisation.remarks(profile.shape, first.kind, first.capability, profile.vllm, pod)
    if constraints.context:
        yield f"--max-model-len {constraints.context}: as you asked"
    elif "auto" in placement.arguments and memory_fit.context is not None:
        yield _why_auto(memory_fit, profile.max_context)
    if constraints.memory:
        yield f"--gpu-memory-utilization {placement.memory:.2f}: as you asked"
    elif placement.memory != candidates.share_of_memory(candidate, constraints):
        yield f"--gpu-memory-utilization {placement.memory:.2f}: what others leave on these GPUs"
    elif placement.memory != vllm_arguments.parse(candidate.arguments).memory:
        yield _share_of_unified_memory(placement.memory)
    if sequence_limit := _sequence_limit(placement):
        yield sequence_limit
    if memory_fit.is_measured:
        yield "its memory was measured at an earlier start"
    elif memory_fit.may_be_refused:
        left = f"{memory_fit.memory.kv_cache:.1f} GiB for its KV cache"
        yield f"vLLM may refuse it: the estimate leaves {left}, and may be wrong by {memory_fit.error:.1f} GiB"


def _why_auto(memory_fit: MemoryFit, longest: int | None) -> str:
    context = memory_fit.context or 0
    if context == longest:
        return f"--max-model-len auto: its {context:,} tokens fit if the estimate is right; vLLM serves as many as fit"
    full = f" of the model's {longest:,}" if longest and context < longest else ""
    return f"--max-model-len auto: about {context:,}{full} tokens fit; vLLM serves as many as fit"


def _share_of_unified_memory(share: float) -> str:
    return f"--gpu-memory-utilization {share:.2f}: the memory is the machine's, whose own programs need the rest of it"


def _sequence_limit(placement: Placement) -> str | None:
    """Say why the plan limits the requests at once, if it does."""
    limit = vllm_arguments.value(placement.arguments, vllm_arguments.SEQUENCES)
    if limit is None or limit == vllm_arguments.value(placement.candidate.arguments, vllm_arguments.SEQUENCES):
        return None
    return (
        f"--max-num-seqs {limit}: each request needs a block of the KV cache for its linear layers, of which there are "
        f"about {placement.fit.state_blocks:,}; vLLM does not start with more requests than blocks"
    )


def _why_these(constraints: Constraints, placement: Placement, spaces: Sequence[GpuSpace], profile: KnownModel) -> str:
    if constraints.stages > 1:
        return "on each pod"
    if constraints.gpus:
        return "as many as you asked for"
    if placement.is_shared:
        names = _beside(placement.spaces)
        return f"no GPU is free; shared with {', '.join(f'`{name}`' for name in names) or 'other processes'}"
    count = len(placement.spaces)
    if profile.kind in POOLED and not placement.fit.is_tight:
        return "the fewest that it fits on"
    if placement.fit.concurrency is None:
        return _why_these_without_kv_cache(placement)
    if not placement.fit.is_tight:
        return f"the fewest that serve its full context to {fit.AMPLE_CONCURRENCY:.0f} or more requests at once"
    more = sum(space.is_free for space in spaces) > count
    return "more would not serve a longer context" if more else "the longest context that these GPUs can serve"


def _left_for_unknown_cache(memory: Memory) -> str:
    if memory.kv_cache <= 0:
        return (
            "by the estimate nothing is left for its KV cache, but the source of this configuration says that it runs"
        )
    return f"about {memory.kv_cache:.1f} GiB of each GPU are left for its KV cache, and vLLM determines what fits there"


def _why_these_without_kv_cache(placement: Placement) -> str:
    if not placement.candidate.is_derived:
        return "the fewest for which there is a configuration"
    share = f"{candidates.CACHE_SHARE:.0%} of their memory for a KV cache of unknown size"
    return (
        f"the most that these GPUs offer; less than {share} is left"
        if placement.is_tight
        else f"the fewest that leave {share}"
    )


def _expected(memory_fit: MemoryFit, profile: KnownModel) -> str:
    """Write what is expected: `: 131,072 tokens of context, about 4.6 such requests at once`."""
    if memory_fit.context is None or memory_fit.concurrency is None:
        return ""
    if profile.kind in POOLED:  # a request is done after one pass, and frees its part of the KV cache
        return f": texts of up to {memory_fit.context:,} tokens"
    requests = f"about {memory_fit.concurrency:.1f} such requests at once"
    return f": {memory_fit.context:,} tokens of context, {requests}"


def _gpus(spaces: Sequence[GpuSpace]) -> str:
    ids = ", ".join(str(space.gpu.id) for space in spaces)
    return f"{gpu_space.kinds(spaces)} (GPU {ids})"


def _beside(spaces: Sequence[GpuSpace]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for space in spaces for name in space.models))

"""Decide how to start a model: on which GPUs, with which vLLM arguments, and why. Pure: it contacts nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pi_cli.errors import BadUsage, DoesNotFit
from pi_cli.hints import fill
from pi_cli.planning import candidates, fit, gpu_space, refusal, vllm_arguments
from pi_cli.planning.candidates import Constraints, Placement
from pi_cli.planning.fit import MemoryFit
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel, ModelProfile, UnknownModel

# What a CPU can serve: larger models take minutes for an answer, and quantised ones need a GPU's kernels.
MAX_CPU_WEIGHTS = 20e9  # bytes
UNQUANTISED_TYPES = ("", "bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model will be started on one pod.

    `gpus` are ids and `kind` is the name of their type. `memory` is the share that the model takes of each, and
    `beside` are the models that already run on them. `reasons` explain the plan, a line each, the most important first.
    `is_complete`: vLLM needs nothing from the Hub but the model itself, whereas the user's own arguments may name
    other repositories. `files` is the size of the download in bytes, if the Hub was asked.
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
        """Return whether the model cannot serve its full context to several requests at once."""
        return self.fit is not None and self.fit.is_tight


def make(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], *, pod: str, is_cpu: bool = False
) -> Plan:
    """Plan a model for a pod with these GPUs. Raises `DoesNotFit`, `NoRoom` or another `BadUsage`.

    On a CPU pod, a model uses no GPU: what its arguments say about parallelism is about processors.
    """
    _check(profile, constraints, spaces, pod, is_cpu=is_cpu)
    if is_cpu:
        return _on_cpu(profile, constraints, pod)
    if constraints.own_arguments is not None:
        return _with_own_arguments(profile, constraints.own_arguments, spaces, pod, constraints.remarks)
    if isinstance(profile, UnknownModel):
        return _of_unknown_model(profile, constraints, spaces, pod)
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


def _check(
    profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str, *, is_cpu: bool
) -> None:
    """Refuse what no placement could change."""
    own = constraints.own_arguments
    if own is not None:
        vllm_arguments.refuse_options_of_pi(own)
    if is_cpu:
        if constraints.gpus or constraints.memory:
            raise BadUsage(f"`{pod}` has no GPUs", hint="leave out `--gpus` and `--memory`")
        return
    if not spaces:
        raise refusal.no_gpus(pod)
    requested = vllm_arguments.gpus_requested(own) if own is not None else constraints.gpus or 1
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
    if isinstance(profile, KnownModel):
        _check_context(profile, constraints.context)


def _check_context(profile: KnownModel, context: int | None) -> None:
    longest = profile.max_context
    if context and longest and context > longest:
        raise BadUsage(
            f"`{profile.id}` supports at most {longest:,} tokens of context, {context:,} requested",
            hint=fill("leave out `--context`, or give `--context {longest}`", longest=longest),
        )


def _on_cpu(profile: ModelProfile, constraints: Constraints, pod: str) -> Plan:
    if constraints.own_arguments is not None:
        reasons = ("your own vLLM arguments, on the CPU", *constraints.remarks)
        return Plan(profile.id, (), constraints.own_arguments, reasons=reasons, is_complete=False)
    context = ("--max-model-len", str(constraints.context or "auto"))
    reasons = (
        f"on the CPU, {'the context you asked for' if constraints.context else 'the longest context that fits'}",
    )
    if isinstance(profile, UnknownModel):
        return Plan(profile.id, (), context, reasons=reasons, files=profile.files)
    shape = profile.shape
    if shape.weights > MAX_CPU_WEIGHTS or shape.dtype not in UNQUANTISED_TYPES:
        size = f"{shape.weights / 1e9:.1f} GB of weights in {shape.dtype}"
        raise DoesNotFit(
            f"`{profile.id}` is for GPUs only, and `{pod}` is a CPU pod: {size}",
            hint="choose a small model that is not quantised; to try anyway, give your own arguments after `--vllm`",
        )
    arguments = (*candidates.features(profile), *context)
    min_vllm = profile.entry.min_vllm if profile.entry else None
    return Plan(profile.id, (), arguments, reasons=reasons, min_vllm=min_vllm, files=profile.files)


def _with_own_arguments(
    profile: ModelProfile, arguments: tuple[str, ...], spaces: Sequence[GpuSpace], pod: str, remarks: tuple[str, ...]
) -> Plan:
    """Pass the user's arguments on unchanged, and choose GPUs that have the memory they ask for."""
    options = vllm_arguments.parse(arguments)
    groups = gpu_space.by_type(spaces) if options.gpus > 1 else [list(spaces)]
    chosen = _least_used(groups, options.gpus, options.memory)
    if chosen is None:
        _, share_left = gpu_space.most_free(spaces, options.gpus)
        raise refusal.no_room(profile.id, pod, gpu_space.held(spaces), share_left=share_left)
    return Plan(
        profile.id,
        tuple(space.gpu.id for space in chosen),
        arguments,
        kind=chosen[0].kind,
        memory=options.memory,
        beside=_beside(chosen),
        reasons=(
            "your own vLLM arguments",
            f"{_gpus(chosen)}: as many as they ask for, those with the fewest models",
            *remarks,
        ),
        fit=fit.estimate(profile.shape, chosen, options) if isinstance(profile, KnownModel) else None,
        is_complete=False,
    )


def _of_unknown_model(profile: UnknownModel, constraints: Constraints, spaces: Sequence[GpuSpace], pod: str) -> Plan:
    """Plan one GPU, or as many as requested, and leave the context to vLLM."""
    count = constraints.gpus or 1
    share = constraints.memory or vllm_arguments.DEFAULT_MEMORY
    groups = gpu_space.by_type(spaces) if count > 1 else [list(spaces)]
    chosen = _least_used(groups, count, share)
    if chosen is None and constraints.memory is None:
        chosen, share = gpu_space.most_free(groups[0], count)
    if not chosen or share < gpu_space.MIN_SHARE:
        raise refusal.no_room(profile.id, pod, gpu_space.held(spaces))
    arguments = ["--tensor-parallel-size", str(count)] if count > 1 else []
    if share != vllm_arguments.DEFAULT_MEMORY:
        arguments += ["--gpu-memory-utilization", f"{share:.2f}"]
    arguments += ["--max-model-len", str(constraints.context or "auto")]
    unknown = f": {profile.reason}" if profile.reason else ""
    why_these = "as you asked" if constraints.gpus else "its size is unknown"
    reasons = [f"not in the catalogue{unknown}", f"{_gpus(chosen)}: {why_these}"]
    if not constraints.context:
        reasons.append("the longest context that fits: vLLM determines it")
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
    profile: KnownModel, constraints: Constraints, placement: Placement, spaces: Sequence[GpuSpace]
) -> Iterator[str]:
    candidate, memory_fit = placement.candidate, placement.fit
    yield f"{candidate.origin}{_expected(memory_fit)}"
    yield f"{_gpus(placement.spaces)}: {_why_these(constraints, placement, spaces)}"
    if candidate.notes:
        yield candidate.notes
    if profile.unknown:
        yield profile.unknown
    if constraints.context:
        yield f"--max-model-len {constraints.context}: as you asked"
    elif "auto" in placement.arguments and memory_fit.context is not None:
        longest = profile.max_context
        full = f" of the model's {longest:,}" if longest and memory_fit.context < longest else ""
        yield f"--max-model-len auto: about {memory_fit.context:,}{full} tokens fit; vLLM serves as many as fit"
    if constraints.memory:
        yield f"--gpu-memory-utilization {placement.memory:.2f}: as you asked"
    elif placement.memory != vllm_arguments.parse(candidate.arguments).memory:
        yield f"--gpu-memory-utilization {placement.memory:.2f}: what others leave on these GPUs"
    if memory_fit.is_measured:
        yield "its memory was measured at an earlier start"


def _why_these(constraints: Constraints, placement: Placement, spaces: Sequence[GpuSpace]) -> str:
    if constraints.gpus:
        return "as many as you asked for"
    if placement.is_shared:
        names = _beside(placement.spaces)
        return f"no GPU is free; shared with {', '.join(f'`{name}`' for name in names) or 'other processes'}"
    count = len(placement.spaces)
    if placement.fit.concurrency is None:
        return "the fewest for which there is a configuration"
    if not placement.fit.is_tight:
        return f"the fewest that serve its full context to {fit.AMPLE_CONCURRENCY:.0f} or more requests at once"
    more = sum(space.is_free for space in spaces) > count
    return "more would not serve a longer context" if more else "the longest context that these GPUs can serve"


def _expected(memory_fit: MemoryFit) -> str:
    """Write what is expected: `: 131,072 tokens of context, about 4.6 such requests at once`."""
    if memory_fit.context is None or memory_fit.concurrency is None:
        return ""
    requests = f"about {memory_fit.concurrency:.1f} such requests at once"
    return f": {memory_fit.context:,} tokens of context, {requests}"


def _gpus(spaces: Sequence[GpuSpace]) -> str:
    ids = ", ".join(str(space.gpu.id) for space in spaces)
    return f"{gpu_space.kinds(spaces)} (GPU {ids})"


def _beside(spaces: Sequence[GpuSpace]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for space in spaces for name in space.models))

"""The ways in which a model could run: the catalogue's and derived ones, put onto the GPUs there are; the best one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pi_cli.planning import fit, gpu_space, vllm_arguments
from pi_cli.planning.catalogue import Configuration
from pi_cli.planning.fit import MeasuredMemory, MemoryFit
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import ModelProfile
from pi_cli.planning.vllm_arguments import Options

AMPLE_CONCURRENCY = 2.0  # requests of the whole context at once, from which on more GPUs are not worth having
MIN_CONTEXT = 4096  # tokens: where less would fit, the model counts as not fitting, unless less is asked for
BF16_CAPABILITY = (8, 0)  # the first GPUs that compute in bfloat16


@dataclass(frozen=True, slots=True)
class Candidate:
    """A number of GPUs out of `spaces`, which are of one kind, and the vLLM arguments and environment for them.

    `origin` says in words where it comes from.
    """

    spaces: Sequence[GpuSpace]
    count: int
    arguments: tuple[str, ...]
    origin: str
    environment: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    is_derived: bool = False


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the user asked for. `own_arguments` are vLLM's, taken as they are; `memory` is a share of each GPU's."""

    own_arguments: tuple[str, ...] | None = None
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """A candidate on GPUs of its own: `memory` is the share of each that it takes, `fit` how it sits there."""

    candidate: Candidate
    spaces: Sequence[GpuSpace]
    arguments: tuple[str, ...]
    memory: float
    fit: MemoryFit

    @property
    def is_shared(self) -> bool:
        return not all(space.is_free for space in self.spaces)

    @property
    def is_roomy(self) -> bool:
        """Tell whether it serves the whole context to several requests at once. Where nobody can tell, it counts so."""
        return self.fit.concurrency is None or self.fit.concurrency >= AMPLE_CONCURRENCY


def best(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Placement | None:
    """Return the best offer with which vLLM would start.

    GPUs of its own come before shared ones, then what serves the whole context to several requests at once, the fewest
    GPUs first, or else the longest context; among equals what is in the catalogue before what is derived.
    """
    return min(_placements(profile, constraints, spaces), key=_rank, default=None)


def measured(profile: ModelProfile, candidate: Candidate, options: Options) -> MeasuredMemory | None:
    """Return what an earlier start on the same kind and number of GPUs told, if it was split in the same way."""
    found = profile.measured.get((candidate.spaces[0].kind, candidate.count))
    return found if found and found.tensor == options.tensor else None


def possible(profile: ModelProfile, count: int | None, spaces: Sequence[GpuSpace]) -> Iterator[Candidate]:
    """Yield the ways to run a model on these GPUs, or on exactly `count` of them."""
    for group in gpu_space.by_type(spaces):
        listed = list(_listed(profile, group))
        yield from (candidate for candidate in listed if count in (None, candidate.count))
        known = {candidate.count for candidate in listed}
        for size in range(1, len(group) + 1):
            if size not in known and count in (None, size) and (found := _derived(profile, size, group)):
                yield found


def impossible(profile: ModelProfile, count: int, space: GpuSpace) -> str | None:
    """Say why a model cannot run on so many GPUs of a kind, whatever their memory; None if it could."""
    assert profile.shape is not None
    if why := fit.cannot_run(profile.shape.dtype, space.capability):
        return why
    if space.is_slice and count > 1:
        return "a model cannot use several MIG slices: CUDA shows a program only one"
    architecture = profile.shape.architecture
    if architecture is None:
        return "its architecture is not known well enough to split it" if count > 1 else None
    if not fit.divides(architecture, count):
        return f"its {architecture.heads} attention heads cannot be split over {count} GPUs"
    return None


def _listed(profile: ModelProfile, group: Sequence[GpuSpace]) -> Iterator[Candidate]:
    gpus = [space.gpu for space in group]
    most = 1 if group[0].is_slice else len(group)
    for configuration in profile.entry.hardware if profile.entry else ():
        if configuration.count <= most and configuration.suits(gpus):
            yield Candidate(
                group,
                configuration.count,
                configuration.args,
                f"the catalogue's for {configuration.count}x {_names(configuration)}",
                dict(configuration.env),
                configuration.notes,
            )


def _names(configuration: Configuration) -> str:
    return " or ".join("any GPU" if name == "any" else name for name in configuration.gpus)


def _derived(profile: ModelProfile, count: int, group: Sequence[GpuSpace]) -> Candidate | None:
    if impossible(profile, count, group[0]):
        return None
    assert profile.shape is not None
    parallel: list[str] = ["--tensor-parallel-size", str(count)] if count > 1 else []
    if profile.shape.architecture and fit.cuts_blocks(profile.shape.architecture, count):
        parallel.append("--enable-expert-parallel")
    capability = group[0].capability
    is_older = capability is not None and capability < BF16_CAPABILITY
    precision = ["--dtype", "half"] if is_older and profile.shape.dtype in ("bfloat16", "") else []
    environment: dict[str, str] = {}
    if profile.entry is None:
        about_the_model = features(profile)
        origin = f"computed from its weights and architecture for {count}x {group[0].kind}"
    else:
        about_the_model, environment = _common(profile.entry.hardware)
        about_the_model = about_the_model or features(profile)
        origin = f"derived from the catalogue's for {count}x {group[0].kind}"
    return Candidate(group, count, (*parallel, *precision, *about_the_model), origin, environment, is_derived=True)


def features(profile: ModelProfile) -> tuple[str, ...]:
    """Return the arguments for tool calls and thinking that a model's architecture has."""
    found: list[str] = []
    if profile.tool_call_parser:
        found += ["--enable-auto-tool-choice", "--tool-call-parser", profile.tool_call_parser]
    if profile.reasoning_parser:
        found += ["--reasoning-parser", profile.reasoning_parser]
    return tuple(found)


def _common(hardware: Sequence[Configuration]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the arguments and the environment that a model has on every hardware: those are about the model."""
    about_the_model = [vllm_arguments.without(each.args, *vllm_arguments.ABOUT_HARDWARE) for each in hardware]
    first, *others = [list(vllm_arguments.groups(each)) for each in about_the_model]
    shared = [group for group in first if all(group in other for other in others)]
    environment = {
        name: value for name, value in hardware[0].env.items() if all(each.env.get(name) == value for each in hardware)
    }
    return tuple(word for group in shared for word in group), environment


def _placements(profile: ModelProfile, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Iterator[Placement]:
    for candidate in possible(profile, constraints.gpus, spaces):
        offer = _placed(profile, constraints, candidate)
        if offer and offer.fit.is_enough:
            yield offer


def _placed(profile: ModelProfile, constraints: Constraints, candidate: Candidate) -> Placement | None:
    """Choose the GPUs, the share of their memory and the context; None where there is no room."""
    options = vllm_arguments.parse(candidate.arguments)
    share = constraints.memory or options.memory
    spaces = gpu_space.least_used(candidate.spaces, candidate.count, share)
    if spaces is None and constraints.memory is None:
        spaces, share = gpu_space.most_free(candidate.spaces, candidate.count)
    if not spaces or share < gpu_space.LEAST_SHARE:
        return None
    own = candidate.arguments
    if share != options.memory:
        own = (*vllm_arguments.without(own, vllm_arguments.MEMORY_SHARE), "--gpu-memory-utilization", f"{share:.2f}")
    if constraints.context:
        own = (*vllm_arguments.without(own, vllm_arguments.CONTEXT_LENGTH), "--max-model-len", str(constraints.context))
    wanted = replace(vllm_arguments.parse(own), memory=share)
    return _in_context(profile, constraints, candidate, spaces, own, wanted)


def _in_context(
    profile: ModelProfile,
    constraints: Constraints,
    candidate: Candidate,
    spaces: Sequence[GpuSpace],
    own: tuple[str, ...],
    options: Options,
) -> Placement:
    """Let vLLM shorten the context where it may not fit: our figures are estimates, and a start costs minutes."""
    assert profile.shape is not None
    known = measured(profile, candidate, options)
    found = fit.estimate(profile.shape, spaces, options, known)
    offer = Placement(candidate, spaces, own, options.memory, found)
    is_sure = options.context is not None and found.is_enough
    if constraints.context or options.is_context_auto or is_sure or (offer.is_roomy and found.concurrency is not None):
        return offer
    if found.concurrency is None and not candidate.is_derived:
        return offer  # the catalogue knows better than we, who know nothing of its KV cache
    auto = replace(options, context=None, is_context_auto=True)
    found = fit.estimate(profile.shape, spaces, auto, known)
    if found.context is not None and found.context < min(MIN_CONTEXT, profile.max_context or MIN_CONTEXT):
        found = replace(found, longest=0)
    shortened = (*vllm_arguments.without(own, vllm_arguments.CONTEXT_LENGTH), "--max-model-len", "auto")
    return Placement(candidate, spaces, shortened, options.memory, found)


def _rank(offer: Placement) -> tuple[float, ...]:
    count, is_derived = offer.candidate.count, offer.candidate.is_derived
    if offer.is_roomy:
        return offer.is_shared, False, is_derived, count
    return offer.is_shared, True, -(offer.fit.context or 0), is_derived, -(offer.fit.concurrency or 0), count

"""The ways to run a model, from the catalogue or derived; their placement on a pod's GPUs, and the best of those."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pi_cli.planning import conditions, fit, gpu_space, quantisation, sequences
from pi_cli.planning.catalogue import Configuration
from pi_cli.planning.conditions import Unmet
from pi_cli.planning.fit import MeasuredMemory, MemoryFit
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.kinds import POOLED
from pi_cli.vllm.vllm_arguments import Options

if TYPE_CHECKING:
    from agent import protocol

# Tokens: with space for fewer, the model counts as not fitting, unless the user asks for less.
MIN_CONTEXT = 4096
# Where it is not known what a token takes in the KV cache: the part of the memory that should be left for it. Models of
# today with this much fit tens of thousands of tokens; vLLM determines how many (`--max-model-len auto`).
CACHE_SHARE = 0.2
BF16_CAPABILITY = (8, 0)  # of the first GPUs that compute in bfloat16


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to run a model: on `count` of these GPUs, all of one kind, with these vLLM arguments and environment.

    `origin` says where it comes from.
    """

    spaces: Sequence[GpuSpace]
    count: int
    arguments: tuple[str, ...]
    origin: str
    environment: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    is_derived: bool = False


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock says of its arguments, which are `own_arguments`: the origin of each, and what belongs to them.

    `variables` are those that the plan had, `vllm` is the version that ran.
    """

    origins: "tuple[protocol.Origin, ...]"
    variables: tuple[tuple[str, str], ...] = ()
    vllm: str | None = None


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the user asked for; `memory` is a share of each GPU's memory, `context` is in tokens.

    `own_arguments` are the user's own vLLM arguments, which are passed on unchanged; `remarks` are what the plan says
    about them. `environment` are variables for vLLM, which count more than those of a recipe. `origins` are those of
    pages that may use the model from a browser. With `stages`, the layers are divided among so many pods, and all
    numbers of GPUs are those of one of them. `locked` is set if a lock has the arguments.
    """

    own_arguments: tuple[str, ...] | None = None
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None
    remarks: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    origins: tuple[str, ...] = ()
    stages: int = 1
    locked: Locked | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """A candidate on chosen GPUs: `memory` is the share that it takes of each."""

    candidate: Candidate
    spaces: Sequence[GpuSpace]
    arguments: tuple[str, ...]
    memory: float
    fit: MemoryFit

    @property
    def is_shared(self) -> bool:
        return not all(space.is_free for space in self.spaces)

    @property
    def is_enough(self) -> bool:
        """Return whether vLLM would start.

        Where the size of the KV cache is not known, a configuration of the catalogue is trusted if its weights fit: its
        source says that it runs on these GPUs, and what is beside the weights is an estimate.
        """
        if self.fit.concurrency is not None or self.candidate.is_derived or self.fit.is_enough:
            return self.fit.is_enough
        is_its_own = self.memory >= vllm_arguments.parse(self.candidate.arguments).memory
        return is_its_own and self.fit.memory.weights < self.fit.memory.total * self.memory

    @property
    def is_tight(self) -> bool:
        """Return whether more GPUs would serve a longer context or more requests.

        Where the size of the KV cache is not known, a configuration of the catalogue is trusted.
        """
        if self.fit.concurrency is not None or not self.candidate.is_derived:
            return self.fit.is_tight
        return self.fit.memory.kv_cache < CACHE_SHARE * self.fit.memory.total * self.memory


def best(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Placement | None:
    """Return the best placement with which vLLM would start.

    Free GPUs come before shared ones. Then comes what serves the full context to several requests at once, on the
    fewest GPUs; then the longest context. Among equals, the catalogue's configurations come before derived ones.
    """
    placements = sorted(_placements(profile, constraints, spaces), key=_rank)
    return next(filter(None, (_accepted(profile, placement) for placement in placements)), None)


def refused(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Unmet | None:
    """Return what vLLM would refuse of the best placement that has the memory; None if there is no such placement."""
    best_first = sorted(_placements(profile, constraints, spaces), key=_rank)
    architecture = profile.shape.architecture
    found = (conditions.certain(architecture, each.arguments, each.spaces[0]) for each in best_first)
    return next((unmet[0] for unmet in found if unmet), None)


def fewest(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> int | None:
    """Return the smallest number of these GPUs with which vLLM would start, whatever number the user asked for."""
    ways = sorted(_ways(profile, None, spaces, constraints.stages), key=lambda candidate: candidate.count)
    enough = filter(None, (_enough(profile, constraints, way) for way in ways))
    sure = (each for each in enough if each.fit.concurrency is not None or not each.is_tight)
    return next((each.candidate.count for each in sure if _accepted(profile, each)), None)


def measured_memory(profile: KnownModel, candidate: Candidate, options: Options) -> MeasuredMemory | None:
    """Return what an earlier start on the same kind and number of GPUs measured, if it had the same tensor size.

    What was measured on one pod says nothing of a part of the layers.
    """
    if options.gpus > candidate.count:
        return None
    measured = profile.measured.get((candidate.spaces[0].kind, candidate.count))
    return measured if measured and measured.tensor == options.tensor else None


def share_of_memory(candidate: Candidate, constraints: Constraints) -> float:
    """Return the share of each GPU's memory that a candidate would have: the user's, its own, or the default."""
    if constraints.memory:
        return constraints.memory
    own, default = vllm_arguments.parse(candidate.arguments).memory, gpu_space.default_share(candidate.spaces)
    is_stated = own != vllm_arguments.DEFAULT_MEMORY or (
        default != own and vllm_arguments.value(candidate.arguments, vllm_arguments.MEMORY_SHARE) is not None
    )
    return own if is_stated else default


def possible(profile: KnownModel, count: int | None, spaces: Sequence[GpuSpace]) -> Iterator[Candidate]:
    """Yield the ways to run a model on these GPUs, or on exactly `count` of them."""
    for group in gpu_space.by_type(spaces):
        listed = list(_listed(profile, group))
        yield from (candidate for candidate in listed if count in (None, candidate.count))
        listed_counts = {candidate.count for candidate in listed}
        sizes = [size for size in range(1, len(group) + 1) if size not in listed_counts and count in (None, size)]
        yield from _derived(profile, sizes, group)


def impossible(profile: KnownModel, count: int, space: GpuSpace) -> str | None:
    """Return why a model cannot run on this many GPUs of a kind, whatever their memory; None if it can."""
    if lacking := quantisation.unmet(profile.shape, space.capability, profile.vllm):
        return lacking.text
    if space.is_slice and count > 1:
        return "a model cannot use several MIG slices: CUDA shows a program only one"
    architecture = profile.shape.architecture
    if architecture is not None:
        cuts_blocks = fit.cuts_blocks(architecture, count)
        return conditions.undivided(architecture, count, is_expert_parallel=cuts_blocks)
    is_usual = count & (count - 1) == 0  # a power of two, which divides the heads of all but a few models
    return None if is_usual else f"its attention heads are not known, and few models can be split over {count} GPUs"


def _listed(profile: KnownModel, group: Sequence[GpuSpace]) -> Iterator[Candidate]:
    """Yield the catalogue's configurations for a group of GPUs."""
    if quantisation.unmet(profile.shape, group[0].capability, profile.vllm):
        return
    gpus = [space.gpu for space in group]
    most = 1 if group[0].is_slice else len(group)
    for configuration in profile.entry.hardware if profile.entry else ():
        if configuration.count <= most and configuration.suits(gpus):
            yield Candidate(
                group,
                configuration.count,
                configuration.args,
                f"the catalogue's configuration for {configuration.count}x {_names(configuration)}",
                dict(configuration.env),
                configuration.notes,
                is_derived=configuration.is_fetched,  # the number of its GPUs is not the smallest that does
            )


def _names(configuration: Configuration) -> str:
    return " or ".join("any GPU" if name == "any" else name for name in configuration.gpus)


def _derived(profile: KnownModel, counts: Sequence[int], group: Sequence[GpuSpace]) -> Iterator[Candidate]:
    """Yield a way to run a model on each of these numbers of GPUs on which it can run at all."""
    kind, about_the_model, environment, notes = group[0].kind, features(profile), dict(profile.environment), ""
    origin = "computed from its weights and architecture"
    possible_counts = [count for count in counts if not impossible(profile, count, group[0])]
    if profile.entry and possible_counts:
        origin, general = "derived from the catalogue's configurations", profile.entry.general
        shared, environment = (general.args, dict(general.env)) if general else common(profile.entry.hardware)
        about_the_model, notes = shared or about_the_model, general.notes if general else ""
    for count in possible_counts:
        arguments = (*_parallelism(profile, count), *_precision(profile, group[0]), *about_the_model)
        yield Candidate(group, count, arguments, f"{origin} for {count}x {kind}", environment, notes, is_derived=True)


def _parallelism(profile: KnownModel, count: int) -> Iterator[str]:
    if count > 1:
        yield from ("--tensor-parallel-size", str(count))
    if profile.shape.architecture and fit.cuts_blocks(profile.shape.architecture, count):
        yield "--enable-expert-parallel"


def _precision(profile: KnownModel, space: GpuSpace) -> tuple[str, ...]:
    is_older = space.capability is not None and space.capability < BF16_CAPABILITY
    return ("--dtype", "half") if is_older and profile.shape.dtype in ("bfloat16", "") else ()


def features(profile: KnownModel) -> tuple[str, ...]:
    """Return the arguments for what a model is for, its tool calls and reasoning, and those that its base model has.

    vLLM's own choice of the runner depends on files of sentence-transformers that some embedding models do not have.
    """
    arguments = [*profile.arguments]
    if is_pooled(profile):
        arguments += ["--runner", "pooling"]
    if profile.tool_call_parser:
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", profile.tool_call_parser]
    if profile.reasoning_parser:
        arguments += ["--reasoning-parser", profile.reasoning_parser]
    return tuple(arguments)


def is_pooled(profile: KnownModel) -> bool:
    """Return whether vLLM's pooling runner serves a model.

    Not a reranker or a reward model whose class generates text: vLLM would compare embeddings instead of ranking.
    """
    return profile.kind in POOLED and not generates_scores(profile)


def generates_scores(profile: KnownModel) -> bool:
    """Return whether a reranker or a reward model writes its scores as text."""
    name = profile.shape.architecture.name if profile.shape.architecture else ""
    return profile.kind in ("reranker", "reward") and name.endswith(("ForCausalLM", "ForConditionalGeneration"))


def common(hardware: Sequence[Configuration]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the arguments and variables that all configurations of a model share: they are about the model."""
    about_the_model = [
        vllm_arguments.without(configuration.args, *vllm_arguments.ABOUT_HARDWARE) for configuration in hardware
    ]
    first, *others = [list(vllm_arguments.groups(arguments)) for arguments in about_the_model]
    shared = [group for group in first if all(group in other for other in others)]
    if limit := _common_sequences(hardware):
        shared.append((vllm_arguments.SEQUENCES[0], str(limit)))
    environment = {
        name: value
        for name, value in hardware[0].env.items()
        if all(configuration.env.get(name) == value for configuration in hardware)
    }
    return tuple(argument for group in shared for argument in group), environment


def _common_sequences(hardware: Sequence[Configuration]) -> int | None:
    """Return the smallest `--max-num-seqs` of configurations that all have one: it is about the model then.

    With a single configuration nothing tells whether the model or that hardware needs it.
    """
    limits = [vllm_arguments.value(configuration.args, vllm_arguments.SEQUENCES) for configuration in hardware]
    numbers = [vllm_arguments.number(limit or "") for limit in limits]
    known = [number for number in numbers if number]
    return min(known) if len(known) == len(hardware) > 1 else None


def _ways(profile: KnownModel, count: int | None, spaces: Sequence[GpuSpace], stages: int) -> Iterator[Candidate]:
    """Yield the ways to run a model on one pod, or on each of several among which its layers are divided.

    Those with replicas or with pipeline stages of their own are for one pod.
    """
    for candidate in possible(profile, count, spaces):
        options = vllm_arguments.parse(candidate.arguments)
        if stages == 1:
            yield candidate
        elif options.gpus == options.tensor:
            arguments = vllm_arguments.replaced(candidate.arguments, vllm_arguments.PIPELINE_PARALLEL, str(stages))
            yield replace(candidate, arguments=arguments, origin=f"{candidate.origin}, on each of {stages} pods")


def _placements(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Iterator[Placement]:
    for candidate in _ways(profile, constraints.gpus, spaces, constraints.stages):
        if placement := _enough(profile, constraints, candidate):
            yield placement


def _enough(profile: KnownModel, constraints: Constraints, candidate: Candidate) -> Placement | None:
    """Return the placement of a candidate if vLLM would start with it."""
    placement = _place(profile, constraints, candidate)
    return placement if placement and placement.is_enough else None


def _accepted(profile: KnownModel, placement: Placement) -> Placement | None:
    """Return a placement with as many requests at once as its KV cache has blocks for; None if vLLM would refuse it.

    This takes longer than all the rest, so it is done for the best placement only.
    """
    most = sequences.capped(placement.arguments, placement.spaces[0], placement.fit)
    if most is not None:
        arguments = vllm_arguments.replaced(placement.arguments, vllm_arguments.SEQUENCES, str(most))
        placement = replace(placement, arguments=arguments)
    unmet = conditions.certain(profile.shape.architecture, placement.arguments, placement.spaces[0])
    return None if unmet else placement


def _place(profile: KnownModel, constraints: Constraints, candidate: Candidate) -> Placement | None:
    """Choose the GPUs, the share of their memory and the context; None if too little memory is free."""
    options = vllm_arguments.parse(candidate.arguments)
    share = share_of_memory(candidate, constraints)
    spaces = gpu_space.least_used(candidate.spaces, candidate.count, share)
    if spaces is None and constraints.memory is None:
        spaces, share = gpu_space.most_free(candidate.spaces, candidate.count)
    if not spaces or share < gpu_space.MIN_SHARE:
        return None
    arguments = candidate.arguments
    if share != options.memory:
        arguments = vllm_arguments.replaced(arguments, vllm_arguments.MEMORY_SHARE, f"{share:.2f}")
    if constraints.context:
        arguments = vllm_arguments.replaced(arguments, vllm_arguments.CONTEXT_LENGTH, str(constraints.context))
    options = replace(vllm_arguments.parse(arguments), memory=share)
    measured = measured_memory(profile, candidate, options)
    memory_fit = fit.estimate(profile.shape, spaces, options, measured)
    placement = Placement(candidate, spaces, arguments, share, memory_fit)
    if not constraints.context and not _may_keep_context(placement, options):
        return _with_context_auto(profile, placement, options, measured)
    return placement


def _may_keep_context(placement: Placement, options: Options) -> bool:
    """Return whether the context of the arguments, or the model's own, is sure enough to fit."""
    concurrency = placement.fit.concurrency
    if options.is_context_auto:
        return True
    if concurrency is None:  # the size of its KV cache is unknown: trust the catalogue
        return not placement.candidate.is_derived
    if placement.fit.hangs_on_the_estimate or not placement.fit.is_enough:
        return False
    return options.context is not None or not placement.fit.is_tight


def _with_context_auto(
    profile: KnownModel, placement: Placement, options: Options, measured: MeasuredMemory | None
) -> Placement:
    """Let vLLM shorten the context where it may not fit: our figures are estimates, and a start takes minutes."""
    auto = replace(options, context=None, is_context_auto=True)
    memory_fit = fit.estimate(profile.shape, placement.spaces, auto, measured)
    least = min(MIN_CONTEXT, profile.max_context or MIN_CONTEXT)
    if memory_fit.context is not None and memory_fit.context < least:
        memory_fit = replace(memory_fit, longest=0)
    arguments = vllm_arguments.replaced(placement.arguments, vllm_arguments.CONTEXT_LENGTH, "auto")
    return replace(placement, arguments=arguments, fit=memory_fit)


def _rank(placement: Placement) -> tuple[float, ...]:
    count, is_derived = placement.candidate.count, placement.candidate.is_derived
    if not placement.is_tight:
        return placement.is_shared, False, is_derived, count
    longest, concurrency = placement.fit.context or 0, placement.fit.concurrency or 0
    left = placement.fit.memory.kv_cache if placement.fit.concurrency is None else 0.0
    return placement.is_shared, True, -longest, is_derived, -concurrency, -left, count

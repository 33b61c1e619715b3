"""The ways in which a model could run: the catalogue's and derived ones, put onto the GPUs there are; the best one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from pi_cli.planning import fit, gpu_space, vllm_arguments
from pi_cli.planning.catalogue import Configuration
from pi_cli.planning.fit import Fit, Measured
from pi_cli.planning.gpu_space import Room
from pi_cli.planning.profile import Profile
from pi_cli.planning.vllm_arguments import Options

ROOMY = 2.0  # requests of the whole context at once, from which on more GPUs are not worth having
LEAST_CONTEXT = 4096  # tokens: where less would fit, the model counts as not fitting, unless less is asked for
OLDER = (8, 0)  # the first GPUs that compute in bfloat16


@dataclass(frozen=True, slots=True)
class Candidate:
    """A number of GPUs out of `rooms`, which are of one kind, and the vLLM arguments and environment for them.

    `origin` says in words where it comes from.
    """

    rooms: Sequence[Room]
    count: int
    arguments: tuple[str, ...]
    origin: str
    environment: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    is_derived: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. `own` are vLLM arguments, taken as they are; `memory` is a share of each GPU's."""

    own: tuple[str, ...] | None = None
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A candidate on GPUs of its own: `memory` is the share of each that it takes, `fit` how it sits there."""

    candidate: Candidate
    rooms: Sequence[Room]
    arguments: tuple[str, ...]
    memory: float
    fit: Fit

    @property
    def is_shared(self) -> bool:
        return not all(room.is_free for room in self.rooms)

    @property
    def is_roomy(self) -> bool:
        """Tell whether it serves the whole context to several requests at once. Where nobody can tell, it counts so."""
        return self.fit.concurrency is None or self.fit.concurrency >= ROOMY


def best(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> Offer | None:
    """Return the best offer with which vLLM would start.

    GPUs of its own come before shared ones, then what serves the whole context to several requests at once, the fewest
    GPUs first, or else the longest context; among equals what is in the catalogue before what is derived.
    """
    return min(_possible(profile, wish, rooms), key=_rank, default=None)


def measured(profile: Profile, candidate: Candidate, options: Options) -> Measured | None:
    """Return what an earlier start on the same kind and number of GPUs told, if it was split in the same way."""
    found = profile.measured.get((candidate.rooms[0].kind, candidate.count))
    return found if found and found.tensor == options.tensor else None


def of(profile: Profile, count: int | None, rooms: Sequence[Room]) -> Iterator[Candidate]:
    """Yield the ways to run a model on these GPUs, or on exactly `count` of them."""
    for group in gpu_space.alike(rooms):
        listed = list(_listed(profile, group))
        yield from (candidate for candidate in listed if count in (None, candidate.count))
        known = {candidate.count for candidate in listed}
        for size in range(1, len(group) + 1):
            if size not in known and count in (None, size) and (found := _derived(profile, size, group)):
                yield found


def impossible(profile: Profile, count: int, room: Room) -> str | None:
    """Say why a model cannot run on so many GPUs of a kind, whatever their memory; None if it could."""
    assert profile.shape is not None
    if why := fit.cannot_run(profile.shape.dtype, room.capability):
        return why
    if room.is_slice and count > 1:
        return "a model cannot use several MIG slices: CUDA shows a program only one"
    architecture = profile.shape.architecture
    if architecture is None:
        return "its architecture is not known well enough to split it" if count > 1 else None
    if not fit.divides(architecture, count):
        return f"its {architecture.heads} attention heads cannot be split over {count} GPUs"
    return None


def _listed(profile: Profile, group: Sequence[Room]) -> Iterator[Candidate]:
    gpus = [room.gpu for room in group]
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


def _derived(profile: Profile, count: int, group: Sequence[Room]) -> Candidate | None:
    if impossible(profile, count, group[0]):
        return None
    assert profile.shape is not None
    parallel: list[str] = ["--tensor-parallel-size", str(count)] if count > 1 else []
    if profile.shape.architecture and fit.cuts_blocks(profile.shape.architecture, count):
        parallel.append("--enable-expert-parallel")
    capability = group[0].capability
    is_older = capability is not None and capability < OLDER
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


def features(profile: Profile) -> tuple[str, ...]:
    """Return the arguments for tool calls and thinking that a model's architecture has."""
    found: list[str] = []
    if profile.tool_call_parser:
        found += ["--enable-auto-tool-choice", "--tool-call-parser", profile.tool_call_parser]
    if profile.reasoning_parser:
        found += ["--reasoning-parser", profile.reasoning_parser]
    return tuple(found)


def _common(hardware: Sequence[Configuration]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the arguments and the environment that a model has on every hardware: those are about the model."""
    hardware_only = (
        vllm_arguments.TENSOR, vllm_arguments.PIPELINE, vllm_arguments.DATA, vllm_arguments.EXPERT,
        vllm_arguments.MEMORY, vllm_arguments.CONTEXT, vllm_arguments.KV_TYPE, vllm_arguments.BATCHED,
        ("--max-num-seqs",),
    )  # fmt: skip
    about_the_model = [vllm_arguments.without(each.args, *hardware_only) for each in hardware]
    first, *others = [list(vllm_arguments.groups(each)) for each in about_the_model]
    shared = [group for group in first if all(group in other for other in others)]
    environment = {
        name: value for name, value in hardware[0].env.items() if all(each.env.get(name) == value for each in hardware)
    }
    return tuple(word for group in shared for word in group), environment


def _possible(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> Iterator[Offer]:
    for candidate in of(profile, wish.gpus, rooms):
        offer = _placed(profile, wish, candidate)
        if offer and offer.fit.is_enough:
            yield offer


def _placed(profile: Profile, wish: Wish, candidate: Candidate) -> Offer | None:
    """Choose the GPUs, the share of their memory and the context; None where there is no room."""
    options = vllm_arguments.read(candidate.arguments)
    share = wish.memory or options.memory
    rooms = gpu_space.least_used(candidate.rooms, candidate.count, share)
    if rooms is None and wish.memory is None:
        rooms, share = gpu_space.roomiest(candidate.rooms, candidate.count)
    if not rooms or share < gpu_space.LEAST_SHARE:
        return None
    own = candidate.arguments
    if share != options.memory:
        own = (*vllm_arguments.without(own, vllm_arguments.MEMORY), "--gpu-memory-utilization", f"{share:.2f}")
    if wish.context:
        own = (*vllm_arguments.without(own, vllm_arguments.CONTEXT), "--max-model-len", str(wish.context))
    wanted = replace(vllm_arguments.read(own), memory=share)
    return _in_context(profile, wish, candidate, rooms, own, wanted)


def _in_context(
    profile: Profile, wish: Wish, candidate: Candidate, rooms: Sequence[Room], own: tuple[str, ...], options: Options
) -> Offer:
    """Let vLLM shorten the context where it may not fit: our figures are estimates, and a start costs minutes."""
    assert profile.shape is not None
    known = measured(profile, candidate, options)
    found = fit.estimate(profile.shape, rooms, options, known)
    offer = Offer(candidate, rooms, own, options.memory, found)
    is_sure = options.context is not None and found.is_enough
    if wish.context or options.is_context_auto or is_sure or (offer.is_roomy and found.concurrency is not None):
        return offer
    if found.concurrency is None and not candidate.is_derived:
        return offer  # the catalogue knows better than we, who know nothing of its KV cache
    auto = replace(options, context=None, is_context_auto=True)
    found = fit.estimate(profile.shape, rooms, auto, known)
    if found.context is not None and found.context < min(LEAST_CONTEXT, profile.max_context or LEAST_CONTEXT):
        found = replace(found, longest=0)
    shortened = (*vllm_arguments.without(own, vllm_arguments.CONTEXT), "--max-model-len", "auto")
    return Offer(candidate, rooms, shortened, options.memory, found)


def _rank(offer: Offer) -> tuple[float, ...]:
    count, is_derived = offer.candidate.count, offer.candidate.is_derived
    if offer.is_roomy:
        return offer.is_shared, False, is_derived, count
    return offer.is_shared, True, -(offer.fit.context or 0), is_derived, -(offer.fit.concurrency or 0), count

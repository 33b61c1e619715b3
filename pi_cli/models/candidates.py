"""The ways in which a model could run on GPUs: the catalogue's configurations, and those derived from its shape."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pi_cli.models import arguments, fit, placement
from pi_cli.models.catalog import Configuration
from pi_cli.models.placement import Room
from pi_cli.models.profile import Profile

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


def of(profile: Profile, count: int | None, rooms: Sequence[Room]) -> Iterator[Candidate]:
    """Yield the ways to run a model on these GPUs, or on exactly `count` of them."""
    for group in placement.alike(rooms):
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
        *arguments.TENSOR, *arguments.PIPELINE, *arguments.DATA, *arguments.EXPERT, *arguments.MEMORY,
        *arguments.CONTEXT, *arguments.KV_TYPE, *arguments.BATCHED, "--max-num-seqs",
    )  # fmt: skip
    first, *others = [list(arguments.groups(arguments.without(each.args, hardware_only))) for each in hardware]
    shared = [group for group in first if all(group in other for other in others)]
    environment = {
        name: value for name, value in hardware[0].env.items() if all(each.env.get(name) == value for each in hardware)
    }
    return tuple(word for group in shared for word in group), environment

"""Where each vLLM argument of a plan comes from. Pure."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pi_cli.planning.candidates import Constraints
from pi_cli.planning.profile import KnownModel, ModelProfile
from pi_cli.vllm import vllm_arguments

if TYPE_CHECKING:
    from agent import protocol


def of(
    profile: ModelProfile, constraints: Constraints, arguments: Sequence[str], *, gpus: int
) -> "tuple[protocol.Origin, ...]":
    """Return the origin of each argument of a plan for so many GPUs."""
    if constraints.own_arguments is not None:
        typed: protocol.Origin = "command"
        return constraints.locked.origins if constraints.locked else tuple(typed for _ in arguments)
    listed, asked = set(_listed(profile, gpus)), _asked(constraints)
    origins: list[protocol.Origin] = []
    for group in vllm_arguments.groups(arguments):
        is_asked = vllm_arguments.name_of(group[0]) in asked
        origin: protocol.Origin = "command" if is_asked else "catalogue" if group in listed else "planned"
        origins += [origin] * len(group)
    return tuple(origins)


def _listed(profile: ModelProfile, gpus: int) -> Iterator[tuple[str, ...]]:
    """Yield the options that the catalogue or a recipe has, with their values.

    What is about hardware counts for its own number of GPUs only: for another one it is the plan that says the same.
    """
    if not isinstance(profile, KnownModel):
        return
    yield from vllm_arguments.groups(profile.arguments)
    if profile.entry is None:
        return
    if profile.entry.general:
        yield from vllm_arguments.groups(profile.entry.general.args)
    for configuration in profile.entry.hardware:
        arguments = configuration.args
        if configuration.count != gpus:
            arguments = vllm_arguments.without(arguments, *vllm_arguments.ABOUT_HARDWARE)
        yield from vllm_arguments.groups(arguments)


def _asked(constraints: Constraints) -> set[str]:
    """Return the names of vLLM's options that an option of pi decides."""
    given = {
        vllm_arguments.TENSOR_PARALLEL: constraints.gpus,
        vllm_arguments.MEMORY_SHARE: constraints.memory,
        vllm_arguments.CONTEXT_LENGTH: constraints.context,
    }
    return {name for names, value in given.items() if value for name in names}

"""Completion of the names of pods and models, from `pods.json` and the catalogue."""

from contextlib import suppress
from typing import TYPE_CHECKING

from pi_cli.commands import descriptions
from pi_cli.commands.descriptions import described
from pi_cli.errors import PiError
from pi_cli.store.records import is_name

if TYPE_CHECKING:
    from pi_cli.store.state import State


@described(descriptions.of_pods)
def complete_pod(incomplete: str) -> list[str]:
    """Return the names of pods that begin with a text."""
    return [name for name in _recorded().pods if name.startswith(incomplete) and is_name(name)]


@described(descriptions.of_models)
def complete_model(incomplete: str) -> list[str]:
    """Return the models that begin with a text: NAME where that is enough, else POD/NAME; POD/NAME of the pod typed."""
    state = _recorded()
    models = [(pod, name) for pod, name, _ in state.models() if is_name(pod) and is_name(name)]
    with_pod = [f"{pod}/{name}" for pod, name in models]
    if "/" in incomplete:
        return [each for each in with_pod if each.startswith(incomplete)]
    default = _default(state)
    names = [name for _, name in models]
    short = [name for pod, name in models if pod == default or names.count(name) == 1]
    ambiguous = [each for each, name in zip(with_pod, names, strict=True) if name not in short]
    offered = [*short, *ambiguous, *(with_pod if incomplete else ())]
    return [each for each in dict.fromkeys(offered) if each.startswith(incomplete)]


@described(descriptions.of_catalogue)
def complete_catalogue(incomplete: str) -> list[str]:
    """Return the ids of the catalogue's models that begin with a text, and their short names if a text is given.

    If some of them may fit the GPUs of the active pod, these only: a shell sorts what it is offered.
    """
    from pi_cli.planning import listed

    state = _recorded()
    pod = state.pods.get(_default(state) or "")
    memory = listed.total_memory(pod.gpus) if pod else None
    models = [model for model in listed.models() if model.begins_with(incomplete)]
    fitting = [model for model in models if memory is None or model.weights < memory]
    return list(dict.fromkeys(spelling for model in fitting or models for spelling in model.spellings(incomplete)))


def _default(state: "State") -> str | None:
    with suppress(PiError):
        return state.default
    return state.active


def complete_gpus(incomplete: str) -> list[str]:
    """Return GPUs for `--gpu`, without spaces, which a shell would have to quote.

    >>> complete_gpus("2xRTX-4")
    ['2xRTX-4090', '2xRTX-4090-D']
    """
    from pi_cli.planning import gpu_types

    before, _, begun = incomplete.rpartition(",")
    count, is_counted, _ = begun.partition("x")
    count = f"{count}x" if is_counted and count.isdecimal() else "1x"
    names = [f"{count}{type.name.replace(' ', '-')}" for type, _ in gpu_types.TABLE]
    return [f"{before},{name}" if before else name for name in names if name.startswith(begun)]


def complete_language(incomplete: str) -> list[str]:
    """Return the shells for which `pi env` prints commands."""
    return [shell for shell in ("bash", "zsh", "fish", "powershell") if shell.startswith(incomplete)]


def _recorded() -> "State":
    """Return the local state, empty if it cannot be read: completion shows no errors."""
    from pi_cli.store import state

    with suppress(PiError):
        return state.load()
    return state.State()

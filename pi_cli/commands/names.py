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
    """Return the names of models that begin with a text."""
    names = dict.fromkeys(name for _, name, _ in _recorded().models())
    return [name for name in names if name.startswith(incomplete) and is_name(name)]


@described(descriptions.of_catalogue)
def complete_catalogue(incomplete: str) -> list[str]:
    """Return the ids of the catalogue's models that begin with a text, and their short names if a text is given.

    If some of them may fit the GPUs of the active pod, these only: a shell sorts what it is offered.
    """
    from pi_cli.planning import listed

    state = _recorded()
    pod = state.pods.get(state.active or "")
    memory = listed.total_memory(pod.gpus) if pod else None
    models = [model for model in listed.models() if model.begins_with(incomplete)]
    fitting = [model for model in models if memory is None or model.weights < memory]
    return list(dict.fromkeys(spelling for model in fitting or models for spelling in model.spellings(incomplete)))


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

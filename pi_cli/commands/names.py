"""Completion of the names of pods and models, from `pods.json`."""

from contextlib import suppress
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.store.records import is_name

if TYPE_CHECKING:
    from pi_cli.store.state import State


def complete_pod(incomplete: str) -> list[str]:
    """Return the names of pods that begin with a text."""
    return [name for name in _recorded().pods if name.startswith(incomplete) and is_name(name)]


def complete_model(incomplete: str) -> list[str]:
    """Return the names of models that begin with a text."""
    names = dict.fromkeys(name for _, name, _ in _recorded().models())
    return [name for name in names if name.startswith(incomplete) and is_name(name)]


def _recorded() -> "State":
    """Return the local state, empty if it cannot be read: completion shows no errors."""
    from pi_cli.store import state

    with suppress(PiError):
        return state.load()
    return state.State()

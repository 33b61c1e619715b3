"""Names that a shell may complete to, from local state."""

from contextlib import suppress
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.store.records import is_name

if TYPE_CHECKING:
    from pi_cli.store.state import State


def complete_pod(incomplete: str) -> list[str]:
    """Return the pods a shell may complete to, from local state."""
    return [name for name in _remembered().pods if name.startswith(incomplete) and is_name(name)]


def complete_model(incomplete: str) -> list[str]:
    """Return the models a shell may complete to, from local state."""
    names = dict.fromkeys(name for _, name, _ in _remembered().models())
    return [name for name in names if name.startswith(incomplete) and is_name(name)]


def _remembered() -> "State":
    """Return the local state; a shell that completes has no use for errors."""
    from pi_cli.store import state

    with suppress(PiError):
        return state.load()
    return state.State()

"""What pi waits for at the moment. Work says it, and the view shows it if it takes long (`view/waiting.py`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Wait:
    """One wait: `connecting to` a pod, or `waiting for the first token`; `whom` is empty if the text says it all."""

    what: str
    whom: str = ""


class Screen:
    """Shows waits; this one shows nothing."""

    def began(self, wait: Wait) -> None:
        pass

    def ended(self, wait: Wait) -> None:
        pass


screen: ContextVar[Screen] = ContextVar("screen", default=Screen())  # noqa: B039 - it has no state
"""Where waits are shown. A context variable, since that holds for the whole run."""


@contextmanager
def on(what: str, whom: str = "") -> Iterator[Callable[[], None]]:
    """Say what is waited for while the block runs, or until the function that this gives is called."""
    wait, shown = Wait(what, whom), screen.get()
    is_over = False

    def over() -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            shown.ended(wait)

    shown.began(wait)
    try:
        yield over
    finally:
        over()

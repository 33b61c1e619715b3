"""Passphrases of private keys: who can be asked for one, and what has been asked already."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

TRIES = 3

Ask = Callable[[str], Awaitable[str]]


class Keyring:
    """The keys that were unlocked in this run. Each is asked for once, however many pods want it; one at a time.

    `ask` shows a question and returns the answer, which is empty where somebody passes over it, or nobody is there;
    without it nobody is asked. `open` has None for a key whose passphrase nobody knew.
    """

    def __init__(self, ask: Ask | None = None) -> None:
        self.ask = ask
        self.open: dict[Path, Any] = {}
        self.turn: asyncio.Lock | None = None

    async def unlock(self, file: Path, read: Callable[[str], Any]) -> Any:
        """Return what `read` makes of a passphrase, or None; `read` raises `ValueError` if it is wrong."""
        import asyncio  # not at the top: every command has a keyring, few have a use for it

        if self.ask is None:
            return None
        self.turn = self.turn or asyncio.Lock()
        async with self.turn:
            if file not in self.open:
                self.open[file] = await self._ask_for(self.ask, file, read)
            return self.open[file]

    async def _ask_for(self, ask: Ask, file: Path, read: Callable[[str], Any]) -> Any:
        question = f"Passphrase for {file}: "
        for _ in range(TRIES):
            said = await ask(question)
            if not said:
                return None
            try:
                return read(said)
            except ValueError:
                question = f"Wrong. Passphrase for {file}: "
        return None


keyring: ContextVar[Keyring] = ContextVar("keyring", default=Keyring())  # noqa: B039 - nobody to ask: it stays empty
"""The keyring of this run. A context variable, since whether somebody is there to ask is a fact about the whole run."""

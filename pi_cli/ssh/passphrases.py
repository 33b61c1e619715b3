"""Passphrases of private keys: asked for once per key and run."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

MAX_ATTEMPTS = 3

AskPassphrase = Callable[[str], Awaitable[str]]


class Keyring:
    """Unlocked keys of this run; each passphrase is asked once, however many pods need the key, and one at a time.

    `ask` shows a prompt and returns the passphrase, or "" when skipped or when there is no terminal; without `ask`
    there is no prompt. `unlocked` has None for a key that stays locked.
    """

    def __init__(self, ask: AskPassphrase | None = None) -> None:
        self.ask = ask
        self.unlocked: dict[Path, Any] = {}
        self.lock: asyncio.Lock | None = None

    async def unlock(self, file: Path, read: Callable[[str], Any]) -> Any:
        """Return the key that `read` loads with the passphrase, or None; `read` raises `ValueError` if it is wrong."""
        import asyncio  # not at the top: every command has a keyring, few use it

        if self.ask is None:
            return None
        self.lock = self.lock or asyncio.Lock()
        async with self.lock:
            if file not in self.unlocked:
                self.unlocked[file] = await self._unlock(self.ask, file, read)
            return self.unlocked[file]

    async def answer(self, question: str) -> str | None:
        """Ask another question of a login; None if there is nobody to ask."""
        import asyncio

        if self.ask is None:
            return None
        self.lock = self.lock or asyncio.Lock()
        async with self.lock:
            return await self.ask(question) or None

    async def _unlock(self, ask: AskPassphrase, file: Path, read: Callable[[str], Any]) -> Any:
        prompt = f"Passphrase for {file}: "
        for _ in range(MAX_ATTEMPTS):
            passphrase = await ask(prompt)
            if not passphrase:
                return None
            try:
                return read(passphrase)
            except ValueError:
                prompt = f"Wrong. Passphrase for {file}: "
        return None


keyring: ContextVar[Keyring] = ContextVar("keyring", default=Keyring())  # noqa: B039 - without `ask` it stays empty
"""The keyring of this run. A context variable, since whether there is a terminal to ask on holds for the whole run."""

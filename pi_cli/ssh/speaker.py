"""Where notes of a login are shown. Every command has a speaker, so this imports nothing heavy."""

from collections.abc import Callable
from contextvars import ContextVar


class Speaker:
    """Shows notes with `say`, each one once; without `say` it is silent."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        if self._say and text not in self._said:
            self._said.add(text)
            self._say(text)

    def block(self, key: str, lines: list[str]) -> None:
        """Show lines that belong together, unless the same ones were shown before."""
        if self._say and key not in self._said:
            self._said.add(key)
            for line in lines:
                self._say(line)


speaker: ContextVar[Speaker] = ContextVar("speaker", default=Speaker())  # noqa: B039 - without `say` it stays silent
"""Shows what servers say. A context variable, since where that can be shown holds for the whole run."""

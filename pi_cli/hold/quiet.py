"""When the holder sends the agents that wait for the next requests: at once if it waits for few pods, else later.

An agent that starts takes processor time here and on its pod. With many pods, answers to a command would come later.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pi_cli.hold import link

FEW = 4  # requests
MOMENT = 1.0  # seconds; what takes longer, such as following a log, does not count


class Quiet:
    """Calls `then` for the first few requests at a time, and when one has ended and none was sent a moment ago."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._begun: dict[object, float] = {}

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count a request for as long as a command waits for its answer."""
        request = object()
        self._begun[request] = link.clock()
        if len(self._recent()) <= FEW:
            self._then()
        try:
            yield
        finally:
            del self._begun[request]
            self.look()

    def look(self) -> None:
        if not self._recent():
            self._then()

    def _recent(self) -> list[float]:
        now = link.clock()
        return [begun for begun in self._begun.values() if now - begun <= MOMENT]

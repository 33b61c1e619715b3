"""When the holder has no pod to wait for: then it sends the agents that wait for the next requests.

An agent that starts takes processor time here and on its pod, of which answers to a command would come later.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pi_cli.hold import link

MOMENT = 1.0  # seconds; what takes longer, such as following a log, does not count


class Quiet:
    """Calls `then` when a request has ended and no other one was sent a moment ago."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._begun: dict[object, float] = {}

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count a request for as long as a command waits for its answer."""
        request = object()
        self._begun[request] = link.clock()
        try:
            yield
        finally:
            del self._begun[request]
            self.look()

    def look(self) -> None:
        now = link.clock()
        if all(now - begun > MOMENT for begun in self._begun.values()):
            self._then()

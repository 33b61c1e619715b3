"""A live view that begins late: most waits are over before rich, which draws it, would be loaded."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pi_cli.view import waiting

if TYPE_CHECKING:
    from pi_cli.view.questions import View


class LateView:
    """Makes a view and starts it after `waiting.DELAY`, in a thread, unless it is stopped before."""

    def __init__(self, make: "Callable[[], View]") -> None:
        self._make = make
        self._view: View | None = None
        self._is_over = False
        self._lock = threading.Lock()
        self._timer = threading.Timer(waiting.DELAY, self._begin)
        self._timer.daemon = True

    def start(self, refresh: bool = False) -> None:
        del refresh
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()
        with self._lock:
            self._is_over = True
        if self._view:
            self._view.stop()

    def _begin(self) -> None:
        import pi_cli.view.live  # noqa: F401 - what takes long, before `stop` would have to wait for it

        with self._lock:
            if not self._is_over:
                view = self._make()
                view.start(refresh=True)
                self._view = view

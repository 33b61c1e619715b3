"""A sign of life: after half a second of waiting, a line on stderr says for whom, and since when.

It is drawn on a terminal only, is gone without a trace when the wait ends, and is never drawn beside another view: a
live view, a question, or text that was begun. In a file or a pipe there is nothing.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pi_cli import units, waits
from pi_cli.waits import Wait

if TYPE_CHECKING:  # every command imports this module
    import asyncio

DELAY = 0.5  # seconds of waiting before there is a line
INTERVAL = 1.0  # seconds between two updates
MAX_NAMES = 3  # of pods in the line
DUMB_DELAY = 3.0  # seconds on a terminal that cannot remove a line: it gets one that stays
DIM, PLAIN, CLEAR = "\x1b[2m", "\x1b[0m", "\r\x1b[K"


class SignOfLife(waits.Screen):
    """Draws the waits of this process on stderr."""

    def __init__(self) -> None:
        self.is_shown = False
        self.is_line_open = False  # text was written without a newline: the cursor is behind it
        self.held = 0  # by what draws itself
        self.is_stopped = False
        self._began: dict[Wait, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def began(self, wait: Wait) -> None:
        self._began[wait] = time.monotonic()
        if not self._timer:
            self._look_in(DELAY)

    def ended(self, wait: Wait) -> None:
        self._began.pop(wait, None)
        if not self._began:
            if self._timer:
                self._timer.cancel()
                self._timer = None
            self.clear()

    def clear(self) -> None:
        """Remove the line; it comes back with the next update, if pi still waits."""
        if self.is_shown:
            self.is_shown = False
            sys.stderr.write(CLEAR)
            sys.stderr.flush()

    @property
    def _may_draw(self) -> bool:
        return not (self.held or self.is_line_open or self.is_stopped)

    def _look_in(self, seconds: float) -> None:
        import asyncio

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nothing else would run while pi waits
            return
        self._timer = loop.call_later(seconds, self._draw)

    def _draw(self) -> None:
        self._timer = None
        since = time.monotonic() - min(self._began.values(), default=time.monotonic())
        if _is_dumb():
            self._print_once(since)
            return
        if self._began and self._may_draw:
            self.is_shown = True
            width = max(_width() - len("^C") - 1, 1)  # terminals echo `^C`
            sys.stderr.write(f"{CLEAR}{DIM}{text(list(self._began), since)[:width]}{PLAIN}")
            sys.stderr.flush()
        if self._began:
            self._look_in(INTERVAL)

    def _print_once(self, since: float) -> None:
        if self._began and since < DUMB_DELAY:
            self._look_in(DUMB_DELAY - since)
        elif self._began and self._may_draw:
            sys.stderr.write(f"{text(list(self._began), since)}\n")
            sys.stderr.flush()


_sign = SignOfLife()


def install() -> None:
    """Show waits from now on, if stderr is a terminal."""
    if sys.stderr is not None and sys.stderr.isatty():
        waits.screen.set(_sign)


def clear() -> None:
    """Remove the line, before a whole line is printed on either stream."""
    _sign.clear()


def wrote(last: str) -> None:
    """Make room for text on either stream: behind one without a newline at its end, nothing is drawn."""
    if last:
        _sign.clear()
        _sign.is_line_open = not last.endswith("\n")


def stop() -> None:
    """Show no waits any more: the terminal belongs to what was waited for."""
    _sign.clear()
    _sign.is_stopped = True


@contextmanager
def held() -> Iterator[None]:
    """Show no waits while the block runs, which draws itself."""
    _sign.clear()
    _sign.held += 1
    try:
        yield
    finally:
        _sign.held -= 1


def announce(what: str, whom: str) -> None:
    """Print a line that stays, for a wait in another program; only where a person sees all that it prints."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        line = text([Wait(what, whom)])
        sys.stderr.write(f"{line}\n" if _is_dumb() else f"{DIM}{line}{PLAIN}\n")
        sys.stderr.flush()


def text(began: list[Wait], seconds: float | None = None) -> str:
    """Say what pi waits for, and how long it has waited.

    >>> text([Wait("connecting to", "a"), Wait("connecting to", "b"), Wait("waiting for", "c")], 3.2)
    'connecting to `a`, `b`; waiting for `c` (3s)'
    >>> text([Wait("waiting for the first token")], 0.5)
    'waiting for the first token (0s)'
    >>> text([Wait("connecting to", name) for name in "abcde"], 61)
    'connecting to `a`, `b`, `c` and 2 more (1m1s)'
    """
    from pi_cli.safe import safe_line

    names: dict[str, dict[str, None]] = {}
    for wait in began:
        names.setdefault(wait.what, {})[wait.whom] = None
    parts = [" ".join(filter(None, (what, _listed([whom for whom in each if whom])))) for what, each in names.items()]
    return safe_line("; ".join(parts) + ("" if seconds is None else f" ({units.age(seconds)})"))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(f"`{name}`" for name in names[:MAX_NAMES]) + more


def _is_dumb() -> bool:
    return os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):  # stderr is drawn on by rich
        return 80

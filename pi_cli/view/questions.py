"""Questions on the terminal, and live views that are removed while a question is open."""

import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from pi_cli.view import terminal, waiting

TERMINAL_DEVICE = "/dev/tty"
POLL_INTERVAL = 0.05  # seconds between two checks whether a line was typed
MAX_LINE = 4096  # bytes, the limit of a terminal


class View(Protocol):
    """What is drawn on the terminal until it is stopped, e.g. a `rich.live.Live`."""

    def start(self, refresh: bool = False) -> None: ...
    def stop(self) -> None: ...


@dataclass(slots=True)
class _Drawing:
    make: Callable[[], View]
    live: View


_drawings: list[_Drawing] = []


@contextmanager
def drawing(make: Callable[[], View]) -> Iterator[None]:
    """Show a live view while the block runs; a question removes it, and makes a new one when it was answered."""
    view = _Drawing(make, make())
    with waiting.held():
        _drawings.append(view)
        view.live.start(refresh=True)  # a line that is printed before the first frame would be drawn into it
        try:
            yield
        finally:
            _drawings.remove(view)
            view.live.stop()


def can_ask() -> bool:
    """Return whether the user can see and answer a question: stderr is a terminal, and there is one to read from.

    This checks the stream that Python started with: a live view replaces `sys.stderr`.
    """
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        return False
    try:
        os.close(os.open(TERMINAL_DEVICE, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def ask_secret(question: str) -> str:
    """Ask on the terminal, wherever stdin and stdout are redirected to, without echo.

    The wait does not block: Ctrl+C ends it, and the terminal is restored. (On macOS an event loop cannot watch
    `/dev/tty`, and a thread that reads from it could not be abandoned.)
    """
    with _live_views_paused(), _echo_off() as terminal:
        os.write(terminal, question.encode())
        return (await _read_line(terminal)).decode("utf-8", "replace").rstrip("\r\n")


async def ask_line(question: str) -> str | None:
    """Ask on the terminal for a line, with echo; return None if the user ends the input (Ctrl+D).

    What was typed before the question was shown is discarded: it cannot be the answer to it.
    """
    with _live_views_paused(), _opened() as terminal:
        termios.tcflush(terminal, termios.TCIFLUSH)
        os.write(terminal, question.encode("utf-8", "replace"))
        line = b""
        try:
            line = await _read_line(terminal)
        finally:
            if not line.endswith(b"\n"):  # Ctrl+C or Ctrl+D
                os.write(terminal, b"\n")
    return line.decode("utf-8", "replace").strip() if line else None


def show_note(text: str) -> None:
    """Print a note on stderr, also while a live view is drawn."""
    with _live_views_paused():
        terminal.note(text, is_needed=True)


async def _read_line(terminal: int) -> bytes:
    import asyncio

    while not select.select([terminal], [], [], 0)[0]:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(POLL_INTERVAL)
    return os.read(terminal, MAX_LINE)


@contextmanager
def _live_views_paused() -> Iterator[None]:
    for view in _drawings:
        view.live.stop()
    try:
        with waiting.held():
            yield
    finally:
        for view in _drawings:
            view.live = view.make()
            view.live.start(refresh=True)


@contextmanager
def _opened() -> Iterator[int]:
    terminal = os.open(TERMINAL_DEVICE, os.O_RDWR | os.O_NOCTTY)
    try:
        yield terminal
    finally:
        os.close(terminal)


@contextmanager
def _echo_off() -> Iterator[int]:
    """Open the terminal with echo off; afterwards print the newline that was not echoed."""
    with _opened() as terminal:
        before = termios.tcgetattr(terminal)
        silent = list(before)
        silent[3] = before[3] & ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
        try:
            yield terminal
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
            os.write(terminal, b"\n")

"""Questions on the terminal, and live views that make room for them."""

import os
import select
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live

TERMINAL = "/dev/tty"
LOOK_AGAIN = 0.05  # seconds between two looks whether a line was typed
LONGEST_LINE = 4096  # bytes; what a terminal takes


@dataclass(slots=True)
class _Drawing:
    make: "Callable[[], Live]"
    live: "Live"


_drawings: list[_Drawing] = []


@contextmanager
def drawing(make: "Callable[[], Live]") -> Iterator[None]:
    """Show a live view while the block runs; a question takes it away, and makes it anew when it is answered."""
    shown = _Drawing(make, make())
    _drawings.append(shown)
    shown.live.start()
    try:
        yield
    finally:
        _drawings.remove(shown)
        shown.live.stop()


def can_be_asked() -> bool:
    """Tell whether somebody is there who would see a question: stderr is a terminal, and we have one to read from.

    The stream that Python began with counts: a live view puts one of its own in its place.
    """
    if sys.__stderr__ is None or not sys.__stderr__.isatty():
        return False
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def ask_secretly(question: str) -> str:
    """Ask on the terminal, wherever stdin and stdout lead, and do not show what is typed.

    It is waited for without blocking: Ctrl+C ends the wait like any other, and the terminal is as before. (On macOS
    an event loop cannot watch `/dev/tty`, and a thread that reads could not be left alone.)
    """
    import asyncio

    with _undisturbed(), _secretive() as terminal:
        os.write(terminal, question.encode())
        while not select.select([terminal], [], [], 0)[0]:  # noqa: ASYNC110 - the kernel tells no event
            await asyncio.sleep(LOOK_AGAIN)
        return os.read(terminal, LONGEST_LINE).decode("utf-8", "replace").rstrip("\r\n")


@contextmanager
def _undisturbed() -> Iterator[None]:
    for shown in _drawings:
        shown.live.stop()
    try:
        yield
    finally:
        for shown in _drawings:
            shown.live = shown.make()
            shown.live.start()


@contextmanager
def _secretive() -> Iterator[int]:
    """Open the terminal with its echo off, and end the line that nobody saw being typed."""
    terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
    try:
        before = termios.tcgetattr(terminal)
        silent = list(before)
        silent[3] = before[3] & ~termios.ECHO
        termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
        try:
            yield terminal
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
            os.write(terminal, b"\n")
    finally:
        os.close(terminal)

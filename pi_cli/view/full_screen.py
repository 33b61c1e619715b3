"""The whole terminal for one view: an alternate screen, and keys as they are pressed."""

import asyncio
import os
import re
import shutil
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich.text import Text

from pi_cli.view import terminal

ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"
CLEAR = "\x1b[H\x1b[2J"
NAMES = {"A": "up", "B": "down", "H": "home", "F": "end", "1~": "home", "4~": "end", "5~": "page-up", "6~": "page-down"}
KEY = re.compile(r"\x1b[\[O]([0-9;]*[A-Za-z~])|(\x1b)(?![\[O])|([^\x1b])")
CTRL_C = "\x03"


def is_possible() -> bool:
    """Return whether this is a terminal that can be drawn on and read from."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not terminal.out().is_dumb_terminal


def is_ascii() -> bool:
    """Return whether stdout takes ASCII only, or another encoding without block characters."""
    try:
        "█▁".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False


def keys(typed: str) -> list[str]:
    r"""Return the names of the keys in what a terminal sends: letters as they are, `up`, `escape`, `page-down`.

    >>> keys("j\x1b[A\x1b\x1b[5~\x1b[99~")
    ['j', 'up', 'escape', 'page-up']
    """
    found = [
        NAMES.get(sequence, "") or ("escape" if escape else letter) for sequence, escape, letter in KEY.findall(typed)
    ]
    return [key for key in found if key]


class FullScreen:
    """The terminal while `opened`. It can be lent to a question or a log in between (`start` and `stop`)."""

    def __init__(self) -> None:
        self.pressed: asyncio.Queue[str] = asyncio.Queue()
        self._console = terminal.out()
        self._input = sys.stdin.fileno()
        self._before: list[Any] | None = None
        self._is_lent = False

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and rows now; a terminal that does not say has 80 and 24."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24

    def start(self, refresh: bool = False) -> None:
        """Take the terminal: keys arrive without Enter and without echo."""
        del refresh  # the first frame is drawn by the caller
        loop = asyncio.get_running_loop()
        self._before = termios.tcgetattr(self._input)
        self._set()
        loop.add_reader(self._input, self._read)
        loop.add_signal_handler(signal.SIGWINCH, self.pressed.put_nowait, "resize")
        self._write(ENTER + CLEAR)

    def stop(self) -> None:
        """Give the terminal back as it was."""
        if self._before is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._input)
        loop.remove_signal_handler(signal.SIGWINCH)
        before, self._before = self._before, None
        with suppress(OSError, termios.error):  # the terminal was closed
            self._write(LEAVE)
            termios.tcsetattr(self._input, termios.TCSAFLUSH, before)

    @contextmanager
    def lent(self, title: str) -> Iterator[None]:
        """Let other output onto the screen, below a title. Meanwhile Ctrl+C is a key like others."""
        self._is_lent = True
        self._set()
        self._write(CLEAR + self._styled(Text(title, style="bold reverse")) + "\r\n")
        try:
            yield
        finally:
            self._is_lent = False
            if self._before is not None:
                self._set()
                self._write(CLEAR)

    def draw(self, lines: Sequence[Text]) -> None:
        """Replace the screen."""
        if self._before is not None and not self._is_lent:
            rows = "\x1b[K\r\n".join(self._styled(line) for line in lines)
            try:
                self._write(f"\x1b[H{rows}\x1b[K\x1b[J")
            except OSError:  # the terminal was closed
                self.pressed.put_nowait("q")

    def _set(self) -> None:
        assert self._before is not None
        settings = list(self._before)
        settings[3] &= ~(termios.ECHO | termios.ICANON | (termios.ISIG if self._is_lent else 0))
        settings[6] = list(settings[6])
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        for key in (termios.VSUSP, termios.VQUIT):  # they would leave the alternate screen behind
            settings[6][key] = b"\0"
        settings[0] &= ~termios.IXON  # Ctrl+S would stop pi itself
        termios.tcsetattr(self._input, termios.TCSADRAIN, settings)

    def _read(self) -> None:
        with suppress(OSError):
            typed = os.read(self._input, 1024)
            for key in keys(typed.decode("utf-8", "ignore")) if typed else ["q"]:
                self.pressed.put_nowait(key)
            return
        self.pressed.put_nowait("q")  # the terminal is gone

    def _styled(self, line: Text) -> str:
        with self._console.capture() as capture:
            self._console.print(line, end="", soft_wrap=True)
        return capture.get()

    def _write(self, text: str) -> None:
        sys.stdout.flush()
        left = text.encode(sys.stdout.encoding or "ascii", "replace")
        while left:
            left = left[os.write(sys.stdout.fileno(), left) :]


@contextmanager
def opened() -> Iterator[FullScreen]:
    """Take the terminal for the block; a question on the terminal (a passphrase) gets it in between."""
    from pi_cli.view import questions

    full_screen = FullScreen()
    with questions.drawing(lambda: full_screen):
        yield full_screen

"""A terminal with a command in it, and a user at the keys."""

import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import ioctl
from types import MappingProxyType

from tests.forkserver import FORKSERVER, Process
from tests.until import until

SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


@dataclass
class Terminal:
    """What the command has written so far is `raw`, and as bytes `written`; `text` is without escape sequences."""

    process: Process
    keys: int
    written: bytes = b""

    @property
    def raw(self) -> str:
        return self.written.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        return SEQUENCES.sub("", self.raw).replace("\r\n", "\n")

    def type(self, keys: str) -> None:
        os.write(self.keys, keys.encode())

    def shows(self, words: str, *, times: int = 1) -> None:
        """Wait until something has been written so often."""
        self._wait_for(lambda: self.text.count(words) >= times, f"`{words}`")

    def asks(self, *, times: int = 1) -> None:
        """Wait for a prompt to type at; the line editor then asks for brackets around pasted text."""
        self._wait_for(lambda: self.raw.count("\x1b[?2004h") >= times, f"prompt number {times}")

    def _wait_for(self, condition: Callable[[], bool], what: str) -> None:
        try:
            until(condition, f"{what} is on the terminal")
        except TimeoutError as error:
            raise AssertionError(f"{error}:\n{self.text}") from None

    def wait(self) -> int:
        return self.process.wait(30)


@contextmanager
def at_a_terminal(
    *words: str, columns: int = 80, environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Terminal]:
    """Run pi with all its streams on a terminal of its own."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | dict(environ)
    with FORKSERVER.start(
        words, stdin=theirs, stdout=theirs, stderr=theirs, terminal=theirs, environ=variables
    ) as process:
        os.close(theirs)
        terminal = Terminal(process, ours)

        def read() -> None:
            with suppress(OSError):  # a terminal whose programs have ended answers so
                while piece := os.read(ours, 65536):
                    terminal.written += piece

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield terminal
        finally:
            process.kill()
            process.wait()
            reader.join(10)
            os.close(ours)

"""A pseudo-terminal for programs, and the text on its screen."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl

from tests.forkserver import FORKSERVER

MOVES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen:
    """The rows that a program has drawn, and above them those that have left the screen; longer lines are wrapped.

    On a screen with a height, the cursor cannot go back to a row that has left it.
    """

    def __init__(self, width: int, height: int | None = None) -> None:
        self.width = width
        self.height = height or sys.maxsize
        self.raw = ""

    @property
    def rows(self) -> list[str]:
        """Return the rows on the screen now, without blanks at the right and empty rows at the bottom."""
        cells: list[list[str]] = [[]]
        row = column = bottom = 0
        for number, letter, carriage, line, text in MOVES.findall(self.raw):
            if letter == "A":
                row = max(row - int(number or 1), bottom + 1 - self.height, 0)
            elif letter == "K":
                cells[row] = []
            elif carriage:
                column = 0
            elif line:
                row += 1
            for character in text:
                if column == self.width:
                    row, column = row + 1, 0
                cells += [[] for _ in range(row + 1 - len(cells))]
                cells[row] += [" "] * (column + 1 - len(cells[row]))
                cells[row][column] = character
                column += 1
            cells += [[] for _ in range(row + 1 - len(cells))]
            bottom = max(bottom, row)
        return "\n".join("".join(characters).rstrip() for characters in cells).rstrip("\n").split("\n")


@contextmanager
def running(
    program: str, *, width: int, height: int = 24, **environ: str
) -> Iterator[tuple[Screen, "subprocess.Popen[str]"]]:
    """Run Python code with its stderr on a terminal of that size; its stdin and stdout are pipes."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    variables = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | environ
    screen = Screen(width, height)

    def read() -> None:
        with suppress(OSError):  # raised by a terminal whose programs have exited
            while piece := os.read(ours, 65536):
                screen.raw += piece.decode()

    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env=variables,
    ) as process:
        os.close(theirs)
        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield screen, process
        finally:
            process.kill()
            process.wait()
            reader.join(10)
            os.close(ours)


def drawn(program: str, *, width: int, **environ: str) -> Screen:
    """Return the screen after the program has exited."""
    with running(program, width=width, height=24, **environ) as (screen, process):
        process.wait(30)
    return screen


def on_a_terminal(columns: int, *words: str, **environ: str) -> str:
    """Run pi on a terminal of that width; return the text, without colours and without blanks at line ends."""
    screen, terminal = pty.openpty()
    with os.fdopen(screen, "rb", buffering=0) as output_file:
        variables = os.environ | environ | {"COLUMNS": str(columns)}
        done = FORKSERVER.start(words, stdout=terminal, stderr=subprocess.DEVNULL, environ=variables)
        os.close(terminal)
        output = b""
        while chunk := _read(output_file.fileno()):
            output += chunk
        assert done.wait(10) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output.decode())
    return "".join(line.rstrip() + "\n" for line in plain.splitlines())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: no process has the terminal open any more
        return b""

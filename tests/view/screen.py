"""A pseudo-terminal for programs, and the text on its screen."""

import codecs
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
from itertools import groupby
from operator import itemgetter

from tests.forkserver import FORKSERVER

MOVES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|([^\x1b\r\n]+)")


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
        return self._rows(coloured=False)

    @property
    def coloured(self) -> list[str]:
        """Return the rows with the escape sequences of their colours."""
        return self._rows(coloured=True)

    def _rows(self, *, coloured: bool) -> list[str]:
        cells = self._cells()
        while len(cells) > 1 and not any(character.strip() for _, character in cells[-1]):
            cells.pop()
        rows = []
        for row in cells:
            while row and row[-1][1].isspace():
                row.pop()
            pieces = [(style, "".join(cell[1] for cell in same)) for style, same in groupby(row, key=itemgetter(0))]
            rows.append("".join(f"\x1b[0m{style}{text}" if coloured else text for style, text in pieces))
        return rows

    def _cells(self) -> list[list[tuple[str, str]]]:
        """Return (style, character) of each cell; a style is the escape sequences since the last reset."""
        cells: list[list[tuple[str, str]]] = [[]]
        row = column = bottom = 0
        style = ""
        for number, letter, carriage, line, text in MOVES.findall(self.raw):
            if letter == "A":
                row = max(row - int(number or 1), bottom + 1 - self.height, 0)
            elif letter == "K":
                cells[row] = []
            elif letter == "m":
                style = "" if number in ("", "0") else f"{style}\x1b[{number}m"
            elif carriage:
                column = 0
            elif line:
                row += 1
            for character in text:
                if column == self.width:
                    row, column = row + 1, 0
                cells += [[] for _ in range(row + 1 - len(cells))]
                cells[row] += [("", " ")] * (column + 1 - len(cells[row]))
                cells[row][column] = (style, character)
                column += 1
            cells += [[] for _ in range(row + 1 - len(cells))]
            bottom = max(bottom, row)
        return cells


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
        decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        with suppress(OSError):  # raised by a terminal whose programs have exited
            while piece := os.read(ours, 65536):
                screen.raw += decoder.decode(piece)

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

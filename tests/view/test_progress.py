"""The live row of a pod, on screens of several widths."""

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from fcntl import ioctl

import pytest

SHOW = """
from pi_cli.events import Output, Phase
from pi_cli.view import progress
with progress.following(["dc1"]) as report:
    report(Phase("dc1", "loading weights"))
    report(Output("dc1", "(EngineCore pid=7) INFO " + "x" * 500))
"""


def read_to_the_end(terminal: int) -> str:
    screen = b""
    with suppress(OSError):  # a terminal whose programs have ended answers so
        while piece := os.read(terminal, 65536):
            screen += piece
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode())


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_long_line_of_the_log_never_pushes_the_pod_and_its_phase_away(width: int) -> None:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen([sys.executable, "-c", SHOW], stdout=subprocess.DEVNULL, stderr=theirs, env=environ):
        os.close(theirs)
        screen = read_to_the_end(ours)
    os.close(ours)
    rows = [line for line in re.split(r"[\r\n]+", screen) if "…" in line]
    assert rows
    assert all("dc1" in row and "loading weights" in row and len(row) < width for row in rows)

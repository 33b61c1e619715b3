"""Systems on which pi cannot run, simulated by hiding what they lack: one line says so, and one what to do."""

import subprocess
import sys

import pytest

# What Python lacks on Windows.
ABSENT = {
    "all": "signal.SIGHUP fcntl termios pwd grp resource pty tty",
    "locks": "fcntl",
    "terminals": "termios",
    "signals": "signal.SIGHUP",
}
PROGRAM = """
import signal, sys
for name in sys.argv[1].split():
    if name == "signal.SIGHUP":
        del signal.SIGHUP
    else:
        sys.modules[name] = None
sys.argv = ["pi", *sys.argv[2:]]
from pi_cli.__main__ import run
run()
"""


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("words", [(), ("--help",), ("pods",), ("demo",)], ids=" ".join)
def test_on_windows_every_command_says_in_one_line_that_pi_needs_wsl(absent: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", PROGRAM, ABSENT[absent], *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: pi needs Linux or macOS, or WSL on Windows\n"
        "hint: install WSL with `wsl --install`, then install and run pi in its terminal\n"
    )

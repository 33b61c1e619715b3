"""Ctrl+C while pi is being loaded."""

import subprocess
import sys

PROGRAM = """
import os, signal, sys
{before}
from pi_cli import interrupts
interrupts.leave_at_once()
class Loading:
    def find_spec(self, name, path=None, target=None):
        if name == "pi_cli.commands.main":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Loading())
sys.argv[1:] = ["--version"]
from pi_cli.__main__ import run
run()
"""


def end(before: str = "") -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(before=before)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_ctrl_c_while_pi_is_loading_exits_silently() -> None:
    assert end() == (130, "", "")


def test_an_ignored_sigint_stays_ignored() -> None:
    code, out, _ = end("signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (code, out.startswith("pi ")) == (0, True)

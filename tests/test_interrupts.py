"""Ctrl+C before a command works, and after it."""

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


def test_while_pi_is_being_loaded_it_ends_without_a_word() -> None:
    assert end() == (130, "", "")


def test_who_wants_it_ignored_is_obeyed() -> None:
    code, said, _ = end("signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (code, said.startswith("pi ")) == (0, True)

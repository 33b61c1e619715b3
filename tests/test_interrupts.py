"""Ctrl+C while pi is being loaded."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
{before}
from pi_cli import interrupts
interrupts.leave_at_once()
def interrupt(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
class Loading:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            interrupt()
sys.meta_path.insert(0, Loading())
sys.argv[1:] = {arguments}
from pi_cli.__main__ import run
{last}
run()
"""


def end(
    module: str = "pi_cli.commands.main",
    *,
    before: str = "",
    arguments: tuple[str, ...] = ("--version",),
    last: str = "",
) -> tuple[int, str, str]:
    program = PROGRAM.format(module=module, before=before, arguments=list(arguments), last=last)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("module", ["pi_cli.commands.main", "typer.main", "pi_cli.commands.start"])
def test_ctrl_c_while_pi_is_loading_exits_silently(module: str) -> None:
    assert end(module, arguments=("start", "--help")) == (130, "", "")


@pytest.mark.parametrize("place", ["typer.main.get_group", "typer.core.TyperGroup.main"])
def test_ctrl_c_while_the_table_of_commands_is_built_exits_silently(place: str) -> None:
    """Also just before Typer would see to it."""
    last = f"import typer.core, typer.main\n{place} = interrupt"
    assert end("none", arguments=("start", "model"), last=last) == (130, "", "")


def test_an_ignored_sigint_stays_ignored() -> None:
    code, out, _ = end("none", before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (code, out.startswith("pi ")) == (0, True)

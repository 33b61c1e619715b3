"""Ctrl+C, SIGTERM and SIGHUP while pi is being loaded, and when the command is over."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pi_cli import interrupts

PROGRAM = """
import os, signal, sys
{before}
from pi_cli import interrupts
interrupts.leave_at_once()
def interrupt(*_, **__):
    os.kill(os.getpid(), signal.{number})
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
    number: str = "SIGINT",
) -> tuple[int, str, str]:
    program = PROGRAM.format(module=module, before=before, arguments=list(arguments), last=last, number=number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("module", ["pi_cli.commands.main", "typer.main", "pi_cli.commands.start"])
def test_a_signal_while_pi_is_loading_ends_it_silently(module: str, number: str) -> None:
    assert end(module, arguments=("start", "--help"), number=number) == (CODES[number], "", "")


@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("place", ["typer.main.get_group", "typer.core.TyperGroup.main"])
def test_a_signal_while_the_table_of_commands_is_built_ends_it_silently(place: str, number: str) -> None:
    """Also just before Typer would see to it."""
    last = f"import typer.core, typer.main\n{place} = interrupt"
    assert end("none", arguments=("start", "model"), last=last, number=number) == (CODES[number], "", "")


@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("place", ["typer.main.get_group", "typer.core.TyperGroup.main"])
def test_the_other_signals_end_pi_where_sigint_is_ignored(place: str, number: str) -> None:
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    last = f"import typer.core, typer.main\n{place} = interrupt"
    done = end("none", before=ignored, arguments=("start", "model"), last=last, number=number)
    assert done == (CODES[number], "", "")


@pytest.mark.parametrize("ignored", ["SIGINT", "none"])
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_the_first_signal_cancels_what_runs_and_waits_for_its_cleaning_up(number: str, ignored: str) -> None:
    program = f"""
import asyncio, os, signal
{"signal.signal(signal.SIGINT, signal.SIG_IGN)" if ignored == "SIGINT" else ""}
from pi_cli import interrupts
interrupts.clean_up()
async def work():
    try:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.{number})
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up")
try:
    interrupts.run(work())
except KeyboardInterrupt:
    print(interrupts.exit_code())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"cleaned up\n{CODES[number]}\n", "")


def test_every_command_is_run_so_that_all_three_signals_end_it() -> None:
    """`asyncio.run` has a handler for SIGINT only.

    `demo` runs it in a thread, which gets no signals; the process that holds links has its own handlers of all three.
    """
    sources = {path: path.read_text() for path in Path(interrupts.__file__).parent.rglob("*.py")}
    assert [
        str(path)
        for path, text in sources.items()
        if re.search(r"asyncio\.(run|Runner)\(", text)
        if path.name != "interrupts.py" and "demo" not in path.parts and path.parts[-2:] != ("hold", "process.py")
    ] == []


def test_an_ignored_sigint_stays_ignored() -> None:
    code, out, _ = end("none", before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    assert (code, out.startswith("pi ")) == (0, True)


def test_an_ignored_sighup_stays_ignored() -> None:
    """As `nohup` asks for."""
    code, out, _ = end("pi_cli.commands.main", before="signal.signal(signal.SIGHUP, signal.SIG_IGN)", number="SIGHUP")
    assert (code, out.startswith("pi ")) == (0, True)

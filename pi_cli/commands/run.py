"""`pi run`: a command that finds a model in its environment, for as long as it runs."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import units
from pi_cli.commands import options
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import OnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import state

if TYPE_CHECKING:
    import asyncio

    from pi_cli.events import Down, Up

TYPED = (signal.SIGINT, signal.SIGQUIT)  # by Ctrl+C and Ctrl+\
SENT = (signal.SIGTERM, signal.SIGHUP)
TERMINAL = "/dev/tty"


def run(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the model, or POD/NAME.", autocompletion=complete_model)
    ],
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND…", help="What to run.")] = None,
    pod: OnPod = None,
) -> None:
    """Run a command that uses a model.

    A port of this machine is kept open to the model while the command runs, and OPENAI_BASE_URL, OPENAI_API_KEY and
    OPENAI_MODEL say where and how to use it, ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_MODEL the same for
    clients of that kind. Other variables of your accounts there are kept from it. Its exit code is passed on, or 128
    and the signal that ended it. Ctrl+C is the command's. Options stand before the model.

    \b
    Examples:
      pi run qwen72b -- python agent.py
      pi run dc2/qwen -- sh -c 'curl "$OPENAI_BASE_URL/models" -H "Authorization: Bearer $OPENAI_API_KEY"'
      pi run qwen72b -- bash
    """
    import asyncio

    words = list(command or [])
    if words[:1] == ["--"]:
        words.pop(0)
    if not words:
        hint = fill("for example: `pi run {name} -- python agent.py`", name=name)
        raise BadUsage("there is nothing to run", hint=hint)
    if not (program := shutil.which(words[0])):
        raise BadUsage(f"there is no command `{words[0]}` here", hint="check its name, and your PATH")
    on, chosen, called, model = options.find_model(state.load(), name, pod)
    key = options.api_key(model)
    from pi_cli.models import clients, forwards, health

    link = _Link()

    async def run_there() -> int:
        target = forwards.Target(on, called, [0])
        async with forwards.opened(target, chosen, link.see) as url:
            if await health.look(url, name=called, key=key) == "locked":
                raise options.wrong_key(called, model)
            return await _run(program, words, clients.environment(url, called, key, os.environ))

    code = asyncio.run(run_there())
    link.tell(f"`{called}` on `{on}`")
    raise typer.Exit(code)


@dataclass(slots=True)
class _Link:
    """What became of the way to the model: said when the command has ended, since its screen is its own."""

    times: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def see(self, event: "Up | Down") -> None:
        from pi_cli.events import Down, Up

        match event:
            case Down(reason=reason):
                self.times += 1
                self.reasons.append(reason)
            case Up(after=after):
                self.seconds += after or 0.0

    def tell(self, what: str) -> None:
        from pi_cli.view import terminal

        if self.times:
            often = "once" if self.times == 1 else f"{self.times} times"
            terminal.note(f"{what} was out of reach {often}, for {units.age(self.seconds)}: {self.reasons[-1]}")


async def _run(program: str, words: list[str], environment: dict[str, str]) -> int:
    """Run a command on our terminal, and return its exit code, as a shell would."""
    import asyncio

    try:
        running = await asyncio.create_subprocess_exec(words[0], *words[1:], executable=program, env=environment)
    except OSError as error:
        raise PiError(f"cannot run `{words[0]}`: {error.strerror}") from error
    try:
        with _signals_for(running):
            code = await running.wait()
    finally:
        if running.returncode is None:  # we were told to end before its signals were its own
            running.terminate()
            await running.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_for(running: "asyncio.subprocess.Process") -> Iterator[None]:
    """Leave signals to a command while the block runs: it is for the command to end, and then for us.

    What is typed on the terminal reaches the command by itself, and must not reach it twice.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (*TYPED, *SENT)}

    def pass_on(number: signal.Signals) -> None:
        if number in SENT or not _are_in_front():
            # Not by `send_signal`, which looks for the end of a command behind the back of who waits for it.
            with suppress(ProcessLookupError):
                os.kill(running.pid, number)

    for number in before:
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _are_in_front() -> bool:
    """Tell whether what is typed on the terminal goes to us, and so to the commands that we run."""
    try:
        terminal = os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)

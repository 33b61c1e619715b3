"""`pi run`: run a command with a port to a model and the variables that point clients to it."""

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import units
from pi_cli.commands import options, resolve
from pi_cli.commands.options import NameOfModel, OnPod
from pi_cli.commands.resolve import ModelOnPod
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import state

if TYPE_CHECKING:
    import asyncio

    from pi_cli.events import Down, Up
    from pi_cli.store.keys import ApiKey

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # Ctrl+C and Ctrl+\
FROM_PROCESSES = (signal.SIGTERM, signal.SIGHUP)
TERMINAL = "/dev/tty"
SEPARATOR = "--"


def run(
    name: NameOfModel = None,
    command: Annotated[list[str] | None, typer.Argument(metavar="-- COMMAND…", help="Command to run.")] = None,
    pod: OnPod = None,
) -> None:
    """Run a command that uses a model.

    While the command runs, pi forwards a local port to the model. OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL
    point the command to it, and ANTHROPIC_BASE_URL, ANTHROPIC_API_KEY and ANTHROPIC_MODEL do so for Anthropic clients.
    Your own OPENAI_* and ANTHROPIC_* variables are not passed on.

    Exits with the command's exit code, or 128 plus the number of the signal that ended it. Ctrl+C goes to the command.
    Options go before the name. With only one model, the name may be left out, but not the `--`.

    \b
    Examples:
      pi run -- python agent.py
      pi run qwen72b -- python agent.py
      pi run dc2/qwen -- sh -c 'echo "$OPENAI_BASE_URL"'
      pi run qwen72b -- bash
    """
    import asyncio

    name, argv, is_separate = _parted(name, command or [])
    current = state.load()
    if not argv:
        words = ["pi", "run", *([name] if name else []), "--", "python", "agent.py"]
        hint = fill("for example: `{words}`", words=words)
        raise BadUsage("there is nothing to run", hint=hint)
    if not is_separate and name is not None:  # `pi run python agent.py` may lack only the `--`
        otherwise = fill("to name no model, put `--` before the command: `pi run -- {argv}`", argv=[name, *argv])
        resolve.model(current, name, pod, otherwise=otherwise if shutil.which(name) else "")
    if not (program := shutil.which(argv[0])):
        raise BadUsage(f"there is no command `{argv[0]}` here", hint="check its name, and your PATH")
    target = resolve.model(current, name, pod)
    key = options.api_key_of(target.name, target.model)
    outages = _Outages()
    code = asyncio.run(_run_with_model(program, argv, target, key, outages))
    outages.show(f"`{target.name}` on `{target.pod_name}`")
    raise typer.Exit(code)


def _parted(name: str | None, command: Sequence[str]) -> tuple[str | None, list[str], bool]:
    """Return the name, if there is one, the command, and whether a `--` is before it.

    >>> _parted("q", ["--", "ls"]), _parted("--", ["ls"]), _parted("q", ["ls"])
    (('q', ['ls'], True), (None, ['ls'], True), ('q', ['ls'], False))
    """
    if name == SEPARATOR:
        return None, list(command), True
    is_separate = command[:1] == [SEPARATOR]
    return name, list(command[1:] if is_separate else command), is_separate


async def _run_with_model(program: str, argv: list[str], target: ModelOnPod, key: "ApiKey", outages: "_Outages") -> int:
    from pi_cli.models import clients, forwards
    from pi_cli.models.door import require_accepted
    from pi_cli.view import waiting

    forward = forwards.Target(target.pod_name, target.name, [0])
    async with forwards.opened(forward, target.pod, outages.count) as (url, model):
        require_accepted(key, model)
        waiting.stop()  # from now on, the terminal is the command's
        return await _run(program, argv, clients.environment(url, target.name, key.value, os.environ))


@dataclass(slots=True)
class _Outages:
    """How often the model was unreachable: shown after the command has ended, which had the terminal until then."""

    times: int = 0
    seconds: float = 0.0
    reasons: list[str] = field(default_factory=list)

    def count(self, event: "Up | Down") -> None:
        from pi_cli.events import Down, Up

        match event:
            case Down(reason=reason):
                self.times += 1
                self.reasons.append(reason)
            case Up(after=after):
                self.seconds += after or 0.0

    def show(self, model: str) -> None:
        from pi_cli.view import terminal

        if self.times:
            times = "once" if self.times == 1 else f"{self.times} times"
            terminal.note(f"{model} was unreachable {times}, for {units.age(self.seconds)}: {self.reasons[-1]}")


async def _run(program: str, argv: list[str], environment: dict[str, str]) -> int:
    """Run a command on this terminal and return its exit code, as a shell would."""
    import asyncio

    try:
        process = await asyncio.create_subprocess_exec(argv[0], *argv[1:], executable=program, env=environment)
    except OSError as error:
        raise PiError(f"cannot run `{argv[0]}`: {error.strerror}") from error
    try:
        with _signals_passed_to(process):
            code = await process.wait()
    finally:
        if process.returncode is None:  # pi received a signal before signals were passed on
            process.terminate()
            await process.wait()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_passed_to(process: "asyncio.subprocess.Process") -> Iterator[None]:
    """Pass signals on to a command while the block runs; pi itself exits once the command has exited.

    The terminal sends its signals to the command as well, so those must not be passed on a second time.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (*FROM_TERMINAL, *FROM_PROCESSES)}

    def pass_on(number: signal.Signals) -> None:
        if number in FROM_PROCESSES or not _is_in_foreground():
            # Not `process.send_signal`: it polls the process, and so takes the exit code from `process.wait`.
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    for number in before:
        loop.add_signal_handler(number, pass_on, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _is_in_foreground() -> bool:
    """Return whether the terminal sends its signals to pi's process group, and so to the command."""
    try:
        terminal = os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)

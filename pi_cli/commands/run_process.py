"""A command on this terminal, which gets the signals that pi gets."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.errors import PiError

if TYPE_CHECKING:
    import asyncio

FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # Ctrl+C and Ctrl+\
FROM_PROCESSES = (signal.SIGTERM, signal.SIGHUP)
TERMINAL = "/dev/tty"


async def run(program: str, argv: list[str], environment: dict[str, str]) -> int:
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
    numbers = [number for number in (*FROM_TERMINAL, *FROM_PROCESSES) if not interrupts.is_ignored(number)]
    before = {number: signal.getsignal(number) for number in numbers}

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

"""What Ctrl+C, SIGTERM and SIGHUP do: while a command runs, clean up; before and after it, exit silently.

Each of the three has its own handler, and none passes its work to another signal: the shell of a script has its
background commands (`pi forward q &`) ignore SIGINT, and `nohup` has them ignore SIGHUP. pi keeps to both.
"""

import os
import signal
from types import FrameType

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes longer to load than Python takes to start
    import asyncio
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    Result = TypeVar("Result")

received: list[int] = []
"""The signals that ended the command, in order of arrival; empty if there was none."""

_task: "asyncio.Task[Any] | None" = None  # what `run` runs


def leave_at_once() -> None:
    """From now on, exit immediately: nothing was started yet, or everything is done."""
    _handle(_leave)


def clean_up() -> None:
    """From now on, cancel what `run` runs, or raise `KeyboardInterrupt`: everything that is open cleans up."""
    _handle(_end)


def run(work: "Coroutine[Any, Any, Result]") -> "Result":
    """Run a coroutine as `asyncio.run` does, whose own handler is for SIGINT only, and not where that is ignored.

    The first signal cancels the coroutine, and so cleans up; the next one interrupts the cleaning up.
    """
    import asyncio

    async def cancellable() -> "Result":
        global _task  # noqa: PLW0603 - there is one command, and a handler cannot be given anything
        _task = asyncio.current_task()
        return await work

    try:
        return asyncio.run(cancellable())
    except BaseException as error:
        if received and isinstance(error, asyncio.CancelledError):
            raise KeyboardInterrupt from None
        raise


def exit_code(code: "int | str | None" = 0) -> "int | str | None":
    """Return the exit code of a command: 128 plus the number of the signal that ended it, or else its own."""
    return 128 + received[0] if received else code


def is_impatient() -> bool:
    """Return whether another signal has come after the first: nothing that takes time is cleaned up any more."""
    return len(received) > 1


def is_ignored(number: int) -> bool:
    """Return whether pi was started with this signal ignored."""
    return signal.getsignal(number) is signal.SIG_IGN


def _handle(handler: "signal._HANDLER") -> None:
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP; what pi says there comes later
        if number is None:
            continue
        if number == signal.SIGTERM or not is_ignored(number):
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    received.append(number)
    if is_impatient() or _task is None or _task.done():
        raise KeyboardInterrupt
    _task.cancel()
    _task.get_loop().call_soon_threadsafe(lambda: None)  # the loop may be waiting for a socket

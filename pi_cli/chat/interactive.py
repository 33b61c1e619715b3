"""A chat: prompt after prompt, until there are no more. Neither Ctrl+C nor an error ends it."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from pi_cli.chat.events import Notice, Report
from pi_cli.chat.lines import Lines
from pi_cli.errors import PiError, PodUnreachable

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

Ask = Callable[["Client", str], Coroutine[Any, Any, None]]
Reach = Callable[[], AbstractAsyncContextManager["Client"]]
Complain = Callable[[PiError], None]


async def chat(
    lines: Lines, *, first: Sequence[str], reach: Reach, ask: Ask, report: Report, complain: Complain
) -> int:
    """Ask the first prompts, then every one of `lines`, and return how many could not be answered.

    A connection that is lost is made anew for the next prompt; only the first one has to succeed.
    """
    failures = 0
    was_reached = False
    given = deque(first)

    async def following() -> str | None:
        return given.popleft() if given else await lines.next()

    prompt: str | None = None
    while True:
        try:
            async with reach() as client:
                was_reached = True
                prompt = prompt or await following()
                while prompt is not None:
                    asked, prompt = prompt, None
                    if not await _attempt(ask(client, asked), lines, report, complain):
                        failures += 1
                    prompt = await following()
                return failures
        except PodUnreachable as error:
            if not was_reached:
                raise
            failures += 1
            complain(error)
            prompt = await following()
            if prompt is None:
                return failures


async def _attempt(answering: Coroutine[Any, Any, None], lines: Lines, report: Report, complain: Complain) -> bool:
    """Let the model answer until it has, fails or is stopped; tell whether it did not fail."""

    async def answer() -> bool:
        try:
            await answering
        except PiError as error:
            complain(error)
            return False
        return True

    if not lines.is_typed:
        return await answer()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(answer())
        with stopped_by_ctrl_c(task):
            await asyncio.wait([task])
    if task.cancelled():
        report(Notice("stopped"))
        return True
    return task.result()


@contextmanager
def stopped_by_ctrl_c(task: "asyncio.Task[bool]") -> Iterator[None]:
    """Let Ctrl+C end a task instead of the command; what ends the command otherwise (SIGTERM, SIGHUP) still does."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        loop.call_soon_threadsafe(task.cancel)

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    signal.signal(signal.SIGINT, stop)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if callable(before[number]):
            signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

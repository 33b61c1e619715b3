"""A chat: ask prompt after prompt until there are no more. Neither Ctrl+C nor an error ends it."""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from pi_cli import interrupts
from pi_cli.chat.events import ChatReport, Notice
from pi_cli.chat.prompts import PromptSource
from pi_cli.errors import PiError, PodUnreachable

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

AskModel = Callable[["Client", str], Coroutine[Any, Any, None]]
Connect = Callable[[], AbstractAsyncContextManager["Client"]]
ShowError = Callable[[PiError], None]


async def chat(
    source: PromptSource,
    *,
    first: Sequence[str],
    connect: Connect,
    ask: AskModel,
    report: ChatReport,
    show_error: ShowError,
) -> int:
    """Ask the `first` prompts, then every prompt of `source`; return how many failed.

    After a lost connection, pi reconnects for the next prompt; only the first attempt to connect has to succeed.
    """
    failures = 0
    was_connected = False
    waiting = deque(first)

    async def next_prompt() -> str | None:
        return waiting.popleft() if waiting else await source.next()

    prompt: str | None = None
    while True:
        try:
            async with connect() as client:
                was_connected = True
                prompt = prompt or await next_prompt()
                while prompt is not None:
                    asked, prompt = prompt, None
                    if not await _attempt(ask(client, asked), source, report, show_error):
                        failures += 1
                    prompt = await next_prompt()
                return failures
        except PodUnreachable as error:
            if not was_connected:
                raise
            failures += 1
            show_error(error)
            prompt = await next_prompt()
            if prompt is None:
                return failures


async def _attempt(
    answering: Coroutine[Any, Any, None], source: PromptSource, report: ChatReport, show_error: ShowError
) -> bool:
    """Run one answer until it ends, fails or is stopped; return False only if it failed."""

    async def answer() -> bool:
        try:
            await answering
        except PiError as error:
            show_error(error)
            return False
        return True

    if not source.is_typed:
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
    """Make Ctrl+C cancel the task instead of the command; SIGTERM and SIGHUP still end the command."""
    if interrupts.is_ignored(signal.SIGINT):
        yield
        return
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

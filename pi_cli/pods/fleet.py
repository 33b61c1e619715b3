"""Work on many pods at once."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from pi_cli.errors import PiError
from pi_cli.pods import login
from pi_cli.pods.ssh import PodSession
from pi_cli.store.records import Pod

MOST_AT_ONCE = 64


async def on_each(pods: Mapping[str, Pod], work: Callable[[PodSession], Awaitable[None]]) -> dict[str, PiError]:
    """Connect to every pod at once, run `work`, and return the pods that failed, with why.

    One pod's failure never stops the others. A bug or Ctrl+C stops them all.
    """
    failures: dict[str, PiError] = {}
    room = asyncio.Semaphore(MOST_AT_ONCE)

    async def attempt(name: str, pod: Pod) -> None:
        try:
            async with room, login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout) as session:
                await work(session)
        except PiError as error:
            failures[name] = error

    async with asyncio.TaskGroup() as group:
        for name, pod in pods.items():
            group.create_task(attempt(name, pod))
    return failures

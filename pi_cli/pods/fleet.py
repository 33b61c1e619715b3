"""Work on many pods at once."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from pi_cli.errors import PiError
from pi_cli.events import Ended, Report
from pi_cli.ssh import login, ssh_command
from pi_cli.ssh.session import PodSession
from pi_cli.store import debug
from pi_cli.store.records import Pod

MOST_AT_ONCE = 64
MOST_AT_ONCE_PER_HOST = 8  # sshd by default drops logins when ten are under way (MaxStartups 10:30:100)


async def on_each(
    pods: Mapping[str, Pod], work: Callable[[PodSession], Awaitable[None]], report: Report = lambda _: None
) -> dict[str, PiError]:
    """Connect to every pod at once, run `work`, and return the pods that failed, with why.

    One pod's failure never stops the others, not even a bug of ours that its answer has met, and is reported at once.
    Ctrl+C stops them all.
    """
    failures: dict[str, PiError] = {}
    room = asyncio.Semaphore(MOST_AT_ONCE)
    doors: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MOST_AT_ONCE_PER_HOST))

    async def attempt(name: str, pod: Pod) -> None:
        error: PiError | None = None
        try:
            async with room, AsyncExitStack() as stack:
                stack.enter_context(debug.bugs_as_errors(f"working on `{name}`"))
                async with doors[ssh_command.parse(pod.ssh).host]:
                    way = login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout)
                    session = await stack.enter_async_context(way)
                await work(session)
        except PiError as failure:
            error = failure
        if error:
            failures[name] = error
        report(Ended(name, str(error) if error else None))

    async with asyncio.TaskGroup() as group:
        for name, pod in pods.items():
            group.create_task(attempt(name, pod))
    return failures

"""Work on many pods at once."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from pi_cli.errors import BadUsage, PiError
from pi_cli.events import Ended, Report
from pi_cli.hints import fill
from pi_cli.ssh import login, ssh_command
from pi_cli.ssh.session import PodSession
from pi_cli.store import debug
from pi_cli.store.records import Pod

MAX_AT_ONCE = 64
MAX_AT_ONCE_PER_HOST = 8  # by default, sshd drops logins while ten are in progress (MaxStartups 10:30:100)


async def on_each(
    pods: Mapping[str, Pod], work: Callable[[PodSession], Awaitable[None]], report: Report = lambda _: None
) -> dict[str, PiError]:
    """Connect to all pods at once, run `work` on each, and return the pods that failed with their errors.

    The failure of one pod never stops the others, even if it is a bug in pi that this pod's answer triggered. It is
    reported immediately. Ctrl+C stops all pods.
    """
    failures: dict[str, PiError] = {}
    slots = asyncio.Semaphore(MAX_AT_ONCE)
    host_slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MAX_AT_ONCE_PER_HOST))

    async def attempt(name: str, pod: Pod) -> None:
        error: PiError | None = None
        try:
            async with slots, AsyncExitStack() as stack:
                stack.enter_context(debug.bugs_as_errors(f"working on `{name}`"))
                async with host_slots[_host(name, pod)]:
                    connection = login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout)
                    session = await stack.enter_async_context(connection)
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


def _host(name: str, pod: Pod) -> str:
    """Return the host of a pod's ssh command; of several pods, the error names the one whose entry is broken."""
    try:
        return ssh_command.parse(pod.ssh).host
    except BadUsage as error:
        hint = fill(
            '{hint}, in `pods.json` or with `pi pods setup {pod} "ssh root@HOST"`',
            hint=error.hint or "correct it",
            pod=name,
        )
        raise BadUsage(f"pod `{name}`: {error.message}", hint=hint, excerpt=error.excerpt) from error

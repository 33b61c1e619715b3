"""Work on many pods at once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.events import Ended, Report
from pi_cli.hints import fill
from pi_cli.hold import connecting
from pi_cli.store import debug
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession

T = TypeVar("T")

MAX_AT_ONCE = 64
MAX_AT_ONCE_PER_HOST = 8  # by default, sshd drops logins while ten are in progress (MaxStartups 10:30:100)


async def on_each(
    pods: Mapping[str, Pod],
    work: Callable[[PodSession], Awaitable[None]],
    report: Report = lambda _: None,
    *,
    learn: Collection[str] = (),
    accept_new: Collection[str] = (),
    at_once: bool = False,
) -> dict[str, PiError]:
    """Connect to all pods at once, run `work` on each, and return the pods that failed with their errors.

    `learn` are pods that are set up: a first host key is pinned; of those to `accept_new`, another one too. `at_once`
    is as of `login.connect`; it is not for work that cleans up on the pod if it fails or is cancelled.

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
                new = name in accept_new
                log_in = partial(
                    _logged_in, name, pod, host_slots, learn=name in learn, accept_new=new, at_once=at_once
                )
                held = connecting.connect(name, pod.ssh, connect_timeout=pod.connect_timeout, log_in=log_in)
                session = await stack.enter_async_context(log_in() if name in learn else held)
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


async def together(pods: Mapping[str, Pod], work: Callable[[Mapping[str, PodSession]], Awaitable[T]]) -> T:
    """Connect to all pods at once, and run `work` once, with all sessions.

    If any pod cannot be reached, `work` does not run. Ctrl+C cancels it while the connections are still open.
    """
    opened: dict[str, asyncio.Future[PodSession]] = {name: asyncio.Future() for name in pods}
    finished = asyncio.Event()
    slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MAX_AT_ONCE_PER_HOST))
    failures: dict[str, PiError] = {}
    results: list[T] = []

    from pi_cli.ssh import login

    async def hold(name: str, pod: Pod) -> None:
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(debug.bugs_as_errors(f"connecting to `{name}`"))
                async with slots[_host(name, pod)]:
                    connection = login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout)
                    session = await stack.enter_async_context(connection)
                opened[name].set_result(session)
                await finished.wait()
        except PiError as error:
            if not opened[name].done():
                opened[name].set_exception(error)

    async with asyncio.TaskGroup() as group:
        for name, pod in pods.items():
            group.create_task(hold(name, pod))
        try:
            await asyncio.wait(opened.values())
            failures |= {name: error for name, each in opened.items() if isinstance(error := each.exception(), PiError)}
            if not failures:
                with debug.bugs_as_errors(f"working on {', '.join(f'`{name}`' for name in pods)}"):
                    results.append(await work({name: each.result() for name, each in opened.items()}))
        except PiError as error:  # raised below: a group would wrap it
            failures[""] = error
        finally:
            finished.set()
    raise_any(failures)
    return results[0]


def _logged_in(
    name: str,
    pod: Pod,
    host_slots: defaultdict[str, asyncio.Semaphore],
    *,
    learn: bool,
    accept_new: bool,
    at_once: bool,
) -> AbstractAsyncContextManager[PodSession]:
    """Log in to a pod while its host has a slot for that."""
    from pi_cli.ssh import login  # not over a held link: it takes longer to load than the rest of `pi list`

    return login.connect(
        name,
        pod.ssh,
        learn=learn,
        accept_new=accept_new,
        connect_timeout=pod.connect_timeout,
        at_once=at_once,
        slot=host_slots[_host(name, pod)],
    )


def _host(name: str, pod: Pod) -> str:
    """Return the host of a pod's ssh command; of several pods, the error names the one whose entry is broken."""
    from pi_cli.ssh import ssh_command  # not over a held link

    try:
        return ssh_command.parse(pod.ssh).host
    except BadUsage as error:
        hint = fill(
            '{hint}, in `pods.json` or with `pi pods setup {pod} "ssh root@HOST"`',
            hint=error.hint or "correct it",
            pod=name,
        )
        raise BadUsage(f"pod `{name}`: {error.message}", hint=hint, excerpt=error.excerpt) from error

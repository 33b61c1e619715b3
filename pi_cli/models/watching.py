"""Look at pods again and again, over one connection to each that is made anew when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from pi_cli.errors import PiError
from pi_cli.events import Note, Report
from pi_cli.hold import connecting
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.store import debug
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession

INTERVAL = 2.0  # seconds between two looks at a pod

T = TypeVar("T")


async def keep_looking(
    pods: Mapping[str, Pod],
    look: Callable[[PodSession], Awaitable[T]],
    see: Callable[[str, T], None],
    *,
    lost: Callable[[str, PiError], None],
    report: Report,
    interval: float = INTERVAL,
) -> None:
    """Look at each pod until cancelled; pass on what was seen, and the error of each attempt that fails."""

    async def watch(name: str, pod: Pod) -> None:
        reconnection = Reconnection(
            on_lost=lambda error: report(Note(name, str(error))),
            on_back=lambda: report(Note(name, f"`{name}` answers again")),
            each_reason=True,
        )
        while True:
            try:
                with debug.bugs_as_errors(f"looking at `{name}`"):
                    async with connecting.connect(name, pod.ssh, connect_timeout=pod.connect_timeout) as session:
                        while True:
                            seen = await look(session)
                            reconnection.connected()
                            see(name, seen)
                            await asyncio.sleep(interval)
            except PiError as error:
                pause = reconnection.pause_after(error)
                lost(name, error)
            await asyncio.sleep(pause)

    async with asyncio.TaskGroup() as group:
        for name, pod in pods.items():
            group.create_task(watch(name, pod))

"""Reconnect to a pod after the connection was lost: when to try again, what to report, when to give up."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

from pi_cli.errors import HostKeyChanged, PiError, PodUnreachable
from pi_cli.lazy_dataclasses import dataclass, field
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between attempts to reconnect; the last one repeats
STEADY_AFTER = 60.0  # seconds after which a connection counts as stable: the next loss starts with the first pause

_T = TypeVar("_T")


@dataclass(slots=True)
class Reconnection:
    """The connection to a pod over its outages.

    `on_lost` is called once per outage, with `each_reason` also when a later attempt fails for another reason.
    `on_back` is called once, when the pod answers again. An outage longer than `give_up_after` seconds ends with the
    last error and `give_up_hint`.
    """

    on_lost: Callable[[PiError], None]
    on_back: Callable[[], None] = lambda: None
    each_reason: bool = False
    give_up_after: float = math.inf
    give_up_hint: str = ""
    pauses: Sequence[float] = PAUSES
    clock: Callable[[], float] = time.monotonic
    _connected_since: float | None = field(default=None, init=False)
    _lost_since: float | None = field(default=None, init=False)
    _reason: str = field(default="", init=False)
    _attempts: int = field(default=0, init=False)

    @property
    def was_connected(self) -> bool:
        return self._connected_since is not None

    def connected(self) -> None:
        """Record that the pod answers."""
        if self._lost_since is None and self.was_connected:
            return
        is_back = self._lost_since is not None
        self._connected_since, self._lost_since = self.clock(), None
        if is_back:
            self.on_back()

    def progressed(self) -> None:
        """Record that the connection delivered data: after the next loss, the pauses begin with the first one."""
        self._attempts = 0

    def pause_after(self, error: PiError) -> float:
        """Return the seconds until the next attempt. Raises the error when the outage has lasted too long."""
        now = self.clock()
        is_new = self._lost_since is None
        if self._lost_since is None:
            self._lost_since = now
            if self._connected_since is not None and now - self._connected_since > STEADY_AFTER:
                self._attempts = 0
        if is_new or (self.each_reason and str(error) != self._reason):
            self._reason = str(error)
            self.on_lost(error)
        if now - self._lost_since > self.give_up_after:
            raise error.with_hint(self.give_up_hint) if self.give_up_hint else error
        pause = self.pauses[min(self._attempts, len(self.pauses) - 1)]
        self._attempts += 1
        return pause


async def keep_connected(
    name: str,
    pod: Pod,
    use: Callable[[PodSession], Awaitable[_T]],
    reconnection: Reconnection,
    *,
    keepalive: float | None = None,
    connect: Callable[..., AbstractAsyncContextManager[PodSession]] | None = None,
) -> _T:
    """Run `use` on a connection to a pod, again on a new one whenever it is lost, and return its result.

    `use` calls `reconnection.connected()` once the pod has answered. `keepalive` is as of `login.connect`, which
    `connect` may replace. Raises the error of an attempt that fails before that, `HostKeyChanged` at any time (it is
    another machine), and all errors of `use` but `PodUnreachable`.
    """
    while True:
        connected: AbstractAsyncContextManager[PodSession]
        if connect is None:
            from pi_cli.ssh import login  # not where a held link may do

            connected = login.connect(name, pod.ssh, connect_timeout=pod.connect_timeout, keepalive=keepalive)
        else:
            connected = connect(name, pod.ssh, connect_timeout=pod.connect_timeout)
        try:
            async with connected as session:
                return await use(session)
        except HostKeyChanged:
            raise
        except PodUnreachable as error:
            if not reconnection.was_connected:
                raise
            pause = reconnection.pause_after(error)
        await asyncio.sleep(pause)

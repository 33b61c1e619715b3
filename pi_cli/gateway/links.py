"""The SSH links of a gateway: a local port for each model, found again whenever a model or a connection comes back.

Every connection through such a port has proved to lead to the model before the balancer's request is sent on it
(`models.door`), so the key goes to no other program.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import NoReturn

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Down, Up
from pi_cli.gateway import replicas
from pi_cli.gateway.events import Event, Joined, Left, LeftOut, PodAway, Report
from pi_cli.gateway.replicas import Member, Members, Wanted
from pi_cli.models import context_length, listing
from pi_cli.models.door import why_not
from pi_cli.models.forwards import ModelPort, Target
from pi_cli.pods.reports import RunningModel
from pi_cli.ssh import forwarding, reconnect
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import PodSession
from pi_cli.store.keys import ApiKey
from pi_cli.store.records import Pod

KEEPALIVE = 2.0  # seconds between keepalives: a pod that hangs is known after 8, instead of the 28 of other commands
POLL = 10.0  # seconds between two looks for models that have come
SILENT_LOOKS = 2  # in a row at which an engine does not answer `/health`: then its requests are asked again elsewhere

Changed = Callable[[], None]


class PodLinks:
    """The ports to the models of one pod, over all its connections; `changed` is called when one comes or goes."""

    def __init__(
        self,
        pod: str,
        entry: Pod,
        wanted: Wanted,
        key: ApiKey,
        members: Members,
        report: Report,
        changed: Changed,
        *,
        pauses: Sequence[float] = reconnect.PAUSES,
    ) -> None:
        self._pod, self._entry, self._wanted, self._key = pod, entry, wanted, key
        self._members, self._report, self._changed, self._pauses = members, report, changed, pauses
        self._links: dict[str, _Link] = {}
        self._away: str | None = None
        self._recheck = asyncio.Event()
        self._is_retired = False

    @property
    def urls(self) -> list[str]:
        """Return the local ports through which requests go at the moment."""
        return [link.member.url for link in self._links.values() if link.member.is_up]

    def want(self, wanted: Wanted) -> None:
        """Take in that other models are wanted, or that pi's list says that models have come or gone."""
        self._wanted = wanted
        self._recheck.set()

    def retire(self) -> None:
        """Take the models from the balancer, and say no more about them: the pod is on pi's list in another way now.

        Answers in progress go on until `run` is cancelled.
        """
        self._is_retired = True
        for link in self._links.values():
            place = link.member.pod, link.member.name
            if self._members.by_place.get(place) is link.member:
                del self._members.by_place[place]
        self._changed()

    async def run(self) -> NoReturn:
        """Keep the links until cancelled. Raises `PiError` if the pod cannot be used at all."""
        async with AsyncExitStack() as ports:
            for name in self._wanted.known(self._pod):
                await self._add(name, ports)
            reconnection = Reconnection(self._disconnect, each_reason=True, pauses=self._pauses)
            reconnection.connected()  # a pod that cannot be reached at first is tried again as after an outage

            async def monitor(session: PodSession, allowed: Awaitable[None]) -> NoReturn:
                await allowed
                await self._monitor(session, ports)

            await forwarding.keep_forwarding(self._pod, self._entry, monitor, reconnection, keepalive=KEEPALIVE)

    def _tell(self, event: Event) -> None:
        if not self._is_retired:
            self._report(event)

    def give_up(self, error: PiError) -> None:
        """Say of every model why it is no longer tried."""
        self._say(f"{error}; giving up")

    async def _add(self, name: str, ports: AsyncExitStack) -> "_Link":
        local = await ports.enter_async_context(forwarding.opened([0]))
        url = f"http://{forwarding.LOOPBACK}:{local.number}"
        member = self._members.by_place[self._pod, name] = Member(self._pod, name, url)
        self._links[name] = link = _Link(member, Target(self._pod, name, [local.number]), local, self._tell)
        return link

    def _disconnect(self, error: PiError) -> None:
        self._say(str(error))

    def _say(self, reason: str) -> None:
        if not self._links and reason != self._away:
            self._tell(PodAway(self._pod, reason))
        self._away = reason
        for link in self._links.values():
            link.disconnect(reason)
        self._changed()

    async def _monitor(self, session: PodSession, ports: AsyncExitStack) -> NoReturn:
        recheck = self._recheck
        self._away = None
        while True:
            for pause in itertools.chain(self._pauses, itertools.repeat(POLL)):
                recheck.clear()
                await self._check(session, ports, recheck)
                is_settled = all(link.is_settled for link in self._links.values())
                await asyncio.sleep(self._pauses[0])
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL if is_settled else min(pause, POLL)):
                        await recheck.wait()
                if is_settled:
                    break

    async def _check(self, session: PodSession, ports: AsyncExitStack, recheck: asyncio.Event) -> None:
        try:
            alive = await listing.alive(session)
        except PodUnreachable:
            raise
        except PiError:
            if not any(link.member.is_up for link in self._links.values()):
                raise
            return  # the links stay as they were
        # A node of a model over several pods has no server.
        running = {name: each for name, each in alive.items() if each.role != "node"}
        if self._is_retired:
            return
        for name, each in running.items():
            if name not in self._links and self._wanted.has(self._pod, name) and each.kind == "model":
                await self._add(name, ports)
        for name, link in self._links.items():
            model = running.get(name)
            first = self._members.first_of(name)
            is_usable = model is not None and why_not(model) is None  # one that is starting has no proof yet
            reason = replicas.why_left_out(model, self._key, first) if model and is_usable else None
            link.note_health(model)
            if link.is_silent and self._members.has_other(link.member):
                link.disconnect("it does not answer, though its pod does")
            else:
                await link.update(session, model, reason, self._key, recheck)
        self._changed()


class _Link:
    """The local port to one model, and what became of it."""

    def __init__(self, member: Member, target: Target, local: forwarding.LocalPort, report: Report) -> None:
        self.member = member
        self._report = report
        self._event: Up | Down | None = None
        self._silent_looks = 0
        self._port = ModelPort(target, local, self._take)

    @property
    def is_settled(self) -> bool:
        """Return whether nothing is expected to change soon."""
        return not self._silent_looks and (self.member.is_up or self.member.left_out is not None)

    @property
    def is_silent(self) -> bool:
        """Return whether the engine hangs: the balancer would leave the requests that wait for it where they are."""
        return self._silent_looks >= SILENT_LOOKS

    def note_health(self, model: RunningModel | None) -> None:
        """Count the looks in a row at which the pod got no answer from the engine."""
        self._silent_looks = self._silent_looks + 1 if model and model.status == "unhealthy" else 0

    async def update(
        self,
        session: PodSession,
        model: RunningModel | None,
        reason: str | None,
        key: ApiKey,
        recheck: asyncio.Event,
    ) -> None:
        """Use the model if it can answer and there is no `reason` to leave it out."""
        member = self.member
        if reason != member.left_out:
            member.left_out = reason
            if reason:
                self._report(LeftOut(member.pod, member.name, reason))
        if reason:
            self._event = None
            self._port.disconnect(reason)
            member.is_up = False
            return
        self._port.update(session, model, recheck)
        if isinstance(self._event, Up) and not member.is_up and model:
            member.context = await context_length.of(f"{member.url}/v1", member.name, key.value)
            member.model, member.is_up, member.was_up, member.reason = model.model, True, True, None
            self._report(Joined(member.pod, member.name, member.context, self._event.after))

    def disconnect(self, reason: str) -> None:
        self._port.disconnect(reason)

    def _take(self, event: Up | Down) -> None:
        self._event = event
        if isinstance(event, Down):
            self.member.is_up = False
            self.member.reason = event.reason
            if not self.member.left_out:
                self._report(Left(event.pod, event.name, event.reason))

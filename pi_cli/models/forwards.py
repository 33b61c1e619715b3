"""Local ports that lead programs of this machine to models, whatever becomes of links and models meanwhile."""

import asyncio
import itertools
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Down, Up
from pi_cli.hints import fill
from pi_cli.models import listing
from pi_cli.ssh import forwarding, reconnect
from pi_cli.ssh.forwarding import LocalPort, Stream
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import NobodyListens, PodSession
from pi_cli.store import forwards
from pi_cli.store.forwards import Forward
from pi_cli.store.records import Pod

HIGHEST = 65535
FRESH = 30.0  # seconds for which it is not doubted that a port is the model's
COUNT = re.compile(r" \d+/\d+")


@dataclass(frozen=True, slots=True)
class Target:
    """A model to lead to; `ports` are those of this machine that would do, the best first."""

    pod: str
    name: str
    ports: Sequence[int]


Report = Callable[[Up | Down], None]


def ports_from(first: int) -> Sequence[int]:
    """Return the ports to try for a model whose port on its pod is `first`."""
    return range(first, HIGHEST + 1)


async def keep_open(
    targets: Sequence[Target],
    pods: Mapping[str, Pod],
    report: Report,
    *,
    pauses: Sequence[float] = reconnect.PAUSES,
    fresh: float = FRESH,
) -> dict[str, PiError]:
    """Keep ports open to models until cancelled, or until none can be; return the pods that failed, with why.

    One pod's failure never stops the others. Other commands of this machine find the ports (`store.forwards`).
    """
    failures: dict[str, PiError] = {}
    names = dict.fromkeys(target.pod for target in targets)
    async with AsyncExitStack() as stack:
        ways = []
        for target in targets:
            port = await stack.enter_async_context(forwarding.opened(target.ports))
            stack.enter_context(forwards.remembered(Forward(target.pod, target.name, port.number, os.getpid())))
            ways.append(_Way(target, port, report, fresh))

        async def attempt(pod: str) -> None:
            here = [way for way in ways if way.pod == pod]
            try:
                await _Keeping(pod, pods[pod], here, pauses).for_ever()
            except PiError as error:
                failures[pod] = error
                for way in here if len(failures) < len(names) else ():  # the last one's failure ends the command
                    way.close(f"{error}; given up")

        async with asyncio.TaskGroup() as group:
            for pod in names:
                group.create_task(attempt(pod))
    return failures


@asynccontextmanager
async def opened(target: Target, pod: Pod, report: Report) -> AsyncIterator[str]:
    """Keep a port open to a model while the block runs, and yield its URL, which leads there.

    Raises `PiError` where it does not at once; what becomes of it later is reported.
    """
    first: asyncio.Future[Up | Down] = asyncio.get_running_loop().create_future()

    def hear(event: Up | Down) -> None:
        if first.done():
            report(event)
        else:
            first.set_result(event)

    async def keep(way: _Way) -> None:
        try:
            await _Keeping(target.pod, pod, [way], reconnect.PAUSES).for_ever()
        except PiError as error:
            if not first.done():
                raise
            way.close(f"{error}; given up")

    async with forwarding.opened(target.ports) as port:
        keeping = asyncio.create_task(keep(_Way(target, port, hear, FRESH)))
        try:
            either: list[asyncio.Future[Any]] = [first, keeping]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                keeping.result()
            yield _url(target, await first)
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])


def _url(target: Target, found: Up | Down) -> str:
    if isinstance(found, Down):
        raise out_of_reach(target.pod, target.name, found.reason)
    return found.url


def out_of_reach(pod: str, name: str, reason: str) -> PiError:
    hint = fill("see how it is with `pi list --pod {pod}`", pod=pod)
    return PiError(f"`{name}` on `{pod}` cannot be reached: {reason}", hint=hint)


class _Way:
    """The way from a local port to a model."""

    def __init__(self, target: Target, port: LocalPort, report: Report, fresh: float) -> None:
        self.pod, self.name = target.pod, target.name
        self.is_up = False
        self._port, self._report, self._fresh = port, report, fresh
        self._url = f"http://{forwarding.LOOPBACK}:{port.number}/v1"
        self._there: int | None = None
        self._seen_at = 0.0
        self._down_since: float | None = None
        self._reason: str | None = None

    def see(self, session: PodSession, record: Mapping[str, Any] | None, doubt: asyncio.Event) -> None:
        """Take in how the model is: `record` is what its pod tells of it, None where it does not run."""
        if reason := why_not(record):
            self.close(reason)
            return
        assert record
        now = asyncio.get_running_loop().time()
        if self._there not in (None, there := int(record["port"])):
            self._port.shut()
        self._there, self._seen_at = there, now
        self._port.lead(session, lambda: self._reach(session, there, doubt))
        if not self.is_up:
            after = None if self._down_since is None else now - self._down_since
            self.is_up, self._reason, self._down_since = True, None, None
            self._report(Up(self.pod, self.name, self._url, after))

    async def _reach(self, session: PodSession, there: int, doubt: asyncio.Event) -> Stream:
        """Connect to the model's port. Once in a while, it is looked again whether that port is still the model's."""
        if asyncio.get_running_loop().time() - self._seen_at > self._fresh:
            doubt.set()
        try:
            return await session.reach(there)
        except NobodyListens:
            doubt.set()
            raise

    def close(self, reason: str) -> None:
        """Let nobody through, and say why if that is news."""
        self._port.shut()
        self._there = None
        if self.is_up:
            self._down_since = asyncio.get_running_loop().time()
        self.is_up = False
        if reason != self._reason:
            self._reason = reason
            self._report(Down(self.pod, self.name, self._url, reason))


class _Keeping:
    """The ways to the models of one pod, over as many connections as it takes."""

    def __init__(self, pod: str, entry: Pod, ways: Sequence[_Way], pauses: Sequence[float]) -> None:
        self._pod, self._entry, self._ways, self._pauses = pod, entry, ways, pauses
        self._has_looked = False

    async def for_ever(self) -> NoReturn:
        reconnection = Reconnection(self._lost, each_reason=True, pauses=self._pauses)
        await forwarding.hold(self._pod, self._entry, self._tend, reconnection)

    def _lost(self, error: PiError) -> None:
        for way in self._ways:
            way.close(str(error))

    async def _tend(self, session: PodSession) -> NoReturn:
        """Look how the models are: at first, when one of them is in doubt, and until all of them are well."""
        doubt = asyncio.Event()
        while True:
            for pause in itertools.chain(self._pauses, itertools.repeat(self._pauses[-1])):
                doubt.clear()
                await self._look(session, doubt)
                if all(way.is_up for way in self._ways):
                    break
                await asyncio.sleep(pause)
            await asyncio.sleep(self._pauses[0])
            await doubt.wait()

    async def _look(self, session: PodSession, doubt: asyncio.Event) -> None:
        try:
            found = await listing.alive(session)
        except PodUnreachable:
            raise
        except PiError:
            if not self._has_looked:
                raise
            return  # the ways are as good as before
        if not self._has_looked and not any(way.name in found for way in self._ways):
            raise _not_there(self._pod, [way.name for way in self._ways])
        self._has_looked = True
        for way in self._ways:
            way.see(session, found.get(way.name), doubt)


def _not_there(pod: str, names: Sequence[str]) -> PiError:
    quoted = " or ".join(f"`{name}`" for name in names)
    hint = fill("see what became of it with `pi list --pod {pod}`", pod=pod)
    return PiError(f"nothing called {quoted} runs on `{pod}`", hint=hint)


def why_not(record: Mapping[str, Any] | None) -> str | None:
    """Say why a model can answer nobody, if that is so."""
    if record is None:
        return "it does not run"
    match record["status"]:
        case "starting":
            return f"it is still starting ({COUNT.sub('', listing.phase(record))})"
        case "orphaned":
            return "its server is dead"
        case _:
            return None

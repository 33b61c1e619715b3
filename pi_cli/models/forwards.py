"""Local ports forwarded to models, kept open while connections are lost and models are restarted."""

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Down, Up
from pi_cli.hints import fill
from pi_cli.models import identity, listing
from pi_cli.models.door import Door, out_of_reach, why_not
from pi_cli.models.identity import Identity
from pi_cli.pods.reports import RunningModel
from pi_cli.ssh import forwarding, reconnect
from pi_cli.ssh.forwarding import LocalPort
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import PodSession
from pi_cli.store import debug, forwards
from pi_cli.store.forwards import Forward
from pi_cli.store.records import Pod

MAX_PORT = 65535

OnLink = Callable[[Up | Down], None]


@dataclass(frozen=True, slots=True)
class Target:
    """A model to forward to; `ports` are the local ports to try, in order.

    If the model's key is known, its port also accepts a `run_key`, and swaps it for that.
    """

    pod: str
    name: str
    ports: Sequence[int]
    run_key: str = field(default="", repr=False)
    key: str = field(default="", repr=False)


def ports_from(first: int) -> Sequence[int]:
    """Return the local ports to try for a model whose port on its pod is `first`."""
    return range(first, MAX_PORT + 1)


async def keep_open(
    targets: Sequence[Target],
    pods: Mapping[str, Pod],
    on_link: OnLink,
    *,
    pauses: Sequence[float] = reconnect.PAUSES,
) -> dict[str, PiError]:
    """Keep ports to models open until cancelled, or until all pods have failed; return the failed pods and why.

    One pod's failure never stops the others. Other commands on this machine find the ports in `store.forwards`.
    """
    failures: dict[str, PiError] = {}
    names = dict.fromkeys(target.pod for target in targets)
    async with AsyncExitStack() as stack:
        ports = []
        for target in targets:
            local = await stack.enter_async_context(_opened_port(target))
            stack.enter_context(_published(target, local))
            ports.append(ModelPort(target, local, on_link))

        async def attempt(pod: str) -> None:
            of_pod = [port for port in ports if port.pod == pod]
            try:
                with debug.bugs_as_errors(f"forwarding to `{pod}`"):
                    await _PodForwarding(pod, pods[pod], of_pod, pauses).run()
            except PiError as error:
                failures[pod] = error
                for port in of_pod if len(failures) < len(names) else ():  # the last one's failure ends the command
                    port.disconnect(f"{error}; giving up")

        async with asyncio.TaskGroup() as group:
            for pod in names:
                group.create_task(attempt(pod))
    return failures


@asynccontextmanager
async def _opened_port(target: Target) -> AsyncIterator[LocalPort]:
    async with forwarding.opened(target.ports) as local:
        if target.run_key:
            from pi_cli.models.run_key import KeySwap

            local.change_requests(partial(KeySwap, target.run_key, target.key))
        yield local


def _published(target: Target, local: LocalPort) -> AbstractContextManager[None]:
    """List a port for other commands, to which it proves that it is the one in the list."""
    forward = Forward(target.pod, target.name, local.number, os.getpid(), secrets.token_hex(32), target.run_key)
    local.answer_with(partial(identity.answer_as_forward, identity=proof_of(forward)))
    return forwards.published(forward)


def proof_of(forward: Forward) -> Identity:
    """Return what a forwarded port proves itself with."""
    return Identity(forward.port, {bytes.fromhex(forward.secret)} if forward.secret else ())


@asynccontextmanager
async def opened(target: Target, pod: Pod, on_link: OnLink) -> AsyncIterator[tuple[str, RunningModel]]:
    """Keep a port to a model open while the block runs, and yield its URL and the model.

    Raises `PiError` if the model cannot be reached at first; later outages go to `on_link`.
    """
    first: asyncio.Future[Up | Down] = asyncio.get_running_loop().create_future()

    def handle(event: Up | Down) -> None:
        if first.done():
            on_link(event)
        else:
            first.set_result(event)

    async def keep(port: ModelPort) -> None:
        try:
            await _PodForwarding(target.pod, pod, [port], reconnect.PAUSES).run()
        except PiError as error:
            if not first.done():
                raise
            port.disconnect(f"{error}; giving up")

    async with _opened_port(target) as local:
        port = ModelPort(target, local, handle)
        keeping = asyncio.create_task(keep(port))
        try:
            either: list[asyncio.Future[Any]] = [first, keeping]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                keeping.result()
            url = _url(target, await first)
            assert port.model
            yield url, port.model
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])


def _url(target: Target, event: Up | Down) -> str:
    if isinstance(event, Down):
        raise out_of_reach(target.pod, target.name, event.reason)
    return event.url


class ModelPort:
    """A local port forwarded to a model."""

    def __init__(self, target: Target, local: LocalPort, on_link: OnLink) -> None:
        self.pod, self.name = target.pod, target.name
        self.is_up = False
        self.model: RunningModel | None = None
        self._local, self._on_link = local, on_link
        self._url = f"http://{forwarding.LOOPBACK}:{local.number}/v1"
        self._session: PodSession | None = None
        self._door: Door | None = None
        self._port_on_pod: int | None = None
        self._down_since: float | None = None
        self._reason: str | None = None

    def update(self, session: PodSession, model: RunningModel | None, recheck: asyncio.Event) -> None:
        """Forward to the model if it can answer; `model` is the pod's report on it, None if it is not running.

        `recheck` is set when a connection to the model was refused or cut short.
        """
        if reason := why_not(model):
            self.disconnect(reason)
            return
        assert model
        if self._port_on_pod not in (None, model.port):
            self._local.disconnect()
        if self._door is None or self._session is not session:
            self._session, self._door = session, Door(session, self.name)
        door, self._port_on_pod, self.model = self._door, model.port, model
        door.expect(model)
        self._local.forward_to(session, door.open, on_cut=recheck.set)
        if not self.is_up:
            now = asyncio.get_running_loop().time()
            after = None if self._down_since is None else now - self._down_since
            self.is_up, self._reason, self._down_since = True, None, None
            self._on_link(Up(self.pod, self.name, self._url, after))

    def disconnect(self, reason: str) -> None:
        """Stop forwarding, and report the reason if it is new."""
        self._local.disconnect()
        self._port_on_pod = None
        if self.is_up:
            self._down_since = asyncio.get_running_loop().time()
        self.is_up = False
        if reason != self._reason:
            self._reason = reason
            self._on_link(Down(self.pod, self.name, self._url, reason))


class _PodForwarding:
    """The ports forwarded to the models of one pod, over all its connections."""

    def __init__(self, pod: str, entry: Pod, ports: Sequence[ModelPort], pauses: Sequence[float]) -> None:
        self._pod, self._entry, self._ports, self._pauses = pod, entry, ports, pauses
        self._has_checked = False

    async def run(self) -> NoReturn:
        reconnection = Reconnection(self._disconnect, each_reason=True, pauses=self._pauses)
        await forwarding.keep_forwarding(self._pod, self._entry, self._monitor, reconnection)

    def _disconnect(self, error: PiError) -> None:
        for port in self._ports:
            port.disconnect(str(error))

    async def _monitor(self, session: PodSession, allowed: Awaitable[None]) -> NoReturn:
        """Check the models until all can be reached, then again whenever a port asks for it."""
        recheck = asyncio.Event()
        while True:
            for pause in itertools.chain(self._pauses, itertools.repeat(self._pauses[-1])):
                recheck.clear()
                await self._check(session, allowed, recheck)
                if all(port.is_up for port in self._ports):
                    break
                await asyncio.sleep(pause)
            await asyncio.sleep(self._pauses[0])
            await recheck.wait()

    async def _check(self, session: PodSession, allowed: Awaitable[None], recheck: asyncio.Event) -> None:
        try:
            running = await listing.alive(session)
            await allowed
        except PodUnreachable:
            raise
        except PiError:
            if not self._has_checked:
                raise
            return  # the ports stay as they were
        if not self._has_checked and not any(port.name in running for port in self._ports):
            raise _not_running(self._pod, [port.name for port in self._ports])
        self._has_checked = True
        for port in self._ports:
            port.update(session, running.get(port.name), recheck)


def _not_running(pod: str, names: Sequence[str]) -> PiError:
    quoted = " or ".join(f"`{name}`" for name in names)
    hint = fill("see what happened to it with `pi list --pod {pod}`", pod=pod)
    return PiError(f"no model called {quoted} is running on `{pod}`", hint=hint)

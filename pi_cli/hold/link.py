"""One held link: a connection to a pod, and an agent on it that is loaded and waits for a request."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from pi_cli.errors import PiError
from pi_cli.hold import messages
from pi_cli.ssh import host_keys, login, ssh_command, ssh_config
from pi_cli.ssh.completed import EXIT_TIMEOUT, Completed, OutputSink
from pi_cli.ssh.session import PodSession
from pi_cli.ssh.ssh_config import Destination

MARK = b"\x1epi "  # as in the agent's protocol: what only the agent prints, and no login shell
MAX_SAID = 1 << 16  # bytes that are kept of what comes before a request
MAX_NOISE = 1 << 20  # bytes before a request; then the agent is given up
# An agent that has waited for an hour ends by itself: `remote/agent/waiting.py`.
RENEWED_AFTER = 1800.0  # seconds
LOADED_AFTER = 2.0  # seconds
KEPT = re.compile(rb'\x1epi \{"event": "beat", "kept": "([0-9a-f]{32})"\}')
MAX_BEAT = 100  # bytes
ASK = b"\n"  # an empty line: the agent answers that it is there


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent as it is sent: the command line that runs it on the pod, and the input with its program.

    `kept_command` runs it where the pod has kept the program, whose hash is its input; it exits with `not_kept` where
    the pod has not.
    """

    command: str
    input: bytes
    kept_command: str
    not_kept: int

    def kept_as(self, name: str) -> "Agent":
        """Return the agent for a pod that has kept its program under a name."""
        return replace(self, command=self.kept_command, input=f"{name}\n".encode())


def clock() -> float:
    """Return seconds that go on while the machine sleeps, where the kernel counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Waiting:
    """An agent that waits for one request. It ends with it, and when its stdin does."""

    def __init__(self, session: PodSession, agent: Agent) -> None:
        self._session, self._agent = session, agent
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._said = bytearray()
        self._tail = b""
        self._asked = self._answered = self._noise = 0
        self._heard = asyncio.Event()
        self._sink: OutputSink | None = None
        self._begun_at = clock()
        self.kept: str | None = None
        """The name under which the pod has kept the program of this agent, as far as it has said so."""
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(lambda _: self._heard.set())

    async def _run(self) -> Completed:
        return await self._session.stream(
            self._agent.command,
            self._take,
            input=self._agent.input,
            more=self._feed(),
            exit_timeout=lambda: EXIT_TIMEOUT,
        )

    @property
    def is_over(self) -> bool:
        return self.task.done()

    @property
    def has_waited(self) -> bool:
        """Whether it has been there for long enough to be loaded."""
        return clock() - self._begun_at > LOADED_AFTER

    @property
    def is_fresh(self) -> bool:
        return not self.is_over and clock() - self._begun_at < RENEWED_AFTER

    def ask(self) -> None:
        """Ask whether the agent is there."""
        self._asked += 1
        self._lines.put_nowait(ASK)

    async def is_there(self) -> bool:
        """Wait until the agent has answered all that it was asked; return False if it has ended instead."""
        while self._answered < self._asked and not self.is_over:
            self._heard.clear()
            await self._heard.wait()
        return self._answered >= self._asked

    def begin(self, line: bytes, sink: OutputSink) -> None:
        """Send the request; from now on, what the agent prints goes to `sink`, first what came before."""
        self._sink = sink
        self._lines.put_nowait(line)

    async def _feed(self) -> AsyncIterator[bytes]:
        while True:
            yield await self._lines.get()

    def _take(self, chunk: bytes) -> Any:
        if self._answered < self._asked:
            seen = self._tail + chunk
            self._answered += seen.count(MARK)
            if self.kept is None and (found := KEPT.search(self._said[-MAX_BEAT:] + chunk)):
                self.kept = found[1].decode()
            self._tail = seen[-len(MARK) + 1 :]
            self._heard.set()
        if self._sink is None or self._answered < self._asked:
            self._noise += len(chunk)
            if self._noise > MAX_NOISE:
                raise PiError("noise")  # no user sees it: the agent is given up
            self._said = (self._said + chunk)[-MAX_SAID:]
            return None
        said, self._said = bytes(self._said), bytearray()
        return self._sink(said + chunk)


@dataclass(slots=True, eq=False)
class Link:
    """A link to a pod: `ssh` is the pod's ssh command, `round_trip` the last one that was measured, in seconds.

    `was_refused`: the login has not succeeded; if it failed, it is not tried again for as long as a link would be held.
    """

    pod: str
    ssh: str
    connect_timeout: float | None
    agent: Agent
    round_trip: float = 0.0
    used_at: float = field(default_factory=clock)
    clients: int = 0
    was_refused: bool = True
    _session: PodSession | None = None
    _waiting: Waiting | None = None
    _kept: str | None = None  # the name of the agent that the pod has kept
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _route: tuple[Destination, ...] = ()
    _pins: Mapping[str, str | None] = field(default_factory=dict)
    _old: list[Waiting] = field(default_factory=list)

    @property
    def session(self) -> PodSession | None:
        """Return the connection, if it is open."""
        return self._session if self._session and not self._session.is_lost else None

    @property
    def is_ready(self) -> bool:
        return self.session is not None and not (self._waiting and self._waiting.is_over)

    async def run(self, slots: asyncio.Semaphore) -> None:
        """Log in, which takes a slot, and keep the connection until it is lost or the link is ended."""
        with suppress(PiError):
            self._route = await ssh_config.route(ssh_command.parse(self.ssh))
            async with AsyncExitStack() as stack:
                async with slots:
                    connection = login.connect(self.pod, self.ssh, connect_timeout=self.connect_timeout)
                    session = await stack.enter_async_context(connection)
                self._pins, self._session, self.was_refused = self._pinned(), session, False
                try:
                    async with session.while_connected():
                        self.renew()
                        await self._measure()
                        await self._ended.wait()
                finally:
                    self._session = None
                    await self._close_agents()

    def end(self) -> None:
        self._ended.set()

    def take(self) -> Waiting | None:
        """Return an agent for a request, which has waited if the last request was not a moment ago."""
        if not self.is_ready:
            return None
        if self._waiting is None:
            self.renew()
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return None
        self._old = [each for each in self._old if not each.is_over] + [waiting]
        return waiting

    def renew(self) -> None:
        """Have an agent wait, if none does, or if it has waited for long."""
        if self.session and not (self._waiting and self._waiting.is_fresh):
            if self._waiting:
                self._waiting.task.cancel()
                self._old.append(self._waiting)
            self._waiting = Waiting(self.session, self.agent.kept_as(self._kept) if self._kept else self.agent)
            self._waiting.task.add_done_callback(self._send_what_is_missing)

    def _send_what_is_missing(self, task: asyncio.Task[Completed]) -> None:
        """Send the program to a pod that has not kept it."""
        if not task.cancelled() and not task.exception() and task.result().status == self.agent.not_kept:
            self._kept = None
            self.renew()

    async def is_right(self) -> bool:
        """Return whether a login would lead to the same machine today: the same settings of ssh, the same host keys."""
        if self._pinned() != self._pins:
            return False
        return await ssh_config.route(ssh_command.parse(self.ssh)) == self._route

    def has_pins(self) -> bool:
        """Return whether pi still has the host keys with which this link was made."""
        return self._session is None or self._pinned() == self._pins

    def _pinned(self) -> dict[str, str | None]:
        names = [host_keys.jump_host_name(self.pod, each.known_name) for each in self._route[:-1]]
        return {name: host_keys.read(name) for name in (self.pod, *names)}

    async def _measure(self) -> None:
        """Measure a round trip once the agent is loaded."""
        waiting = self._waiting
        if waiting:
            waiting.ask()
            if await waiting.is_there():
                self._kept = waiting.kept
                begun = clock()
                waiting.ask()
                await waiting.is_there()
                self.round_trip = clock() - begun

    async def _close_agents(self) -> None:
        agents = [*self._old, *filter(None, [self._waiting])]
        for each in agents:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in agents), return_exceptions=True)


def wish_line(wish: Mapping[str, Any], version: int) -> bytes:
    """Return the request for the agent that a command wishes, as the agent reads it."""
    envelope = {
        "protocol": version,
        "operation": wish["operation"],
        "beat": wish["beat"],
        "request": wish["request"],
    }
    return messages.line(envelope)

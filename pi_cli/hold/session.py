"""A pod over a held link: what `PodSession` is over a connection of this command.

Operations of the agent go over the link. For everything else, and whenever the link gives no sign of life, this command
logs in itself; from then on it uses its own connection only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.hold import conversation, messages, stream
from pi_cli.ssh import losses
from pi_cli.store import debug

if TYPE_CHECKING:
    from pi_cli.hold.conversation import Conversation
    from pi_cli.ssh.completed import Completed, OutputSink
    from pi_cli.ssh.first import First
    from pi_cli.ssh.session import PodSession

LAST_CHANCE = 3.0  # seconds for a link that has not answered yet, after this command could not log in

LogIn = Callable[[], AbstractAsyncContextManager["PodSession"]]


@dataclass(frozen=True, slots=True)
class Wish:
    """An operation of the agent: its name, the seconds between two beats, and the request."""

    operation: str
    beat: float
    request: Mapping[str, object]

    @property
    def is_sure(self) -> bool:
        """Whether it changes something: nothing is asked of the pod before it is certain over which way."""
        return not messages.is_taken(self.operation, self.request, is_sure=False)

    def message(self) -> dict[str, Any]:
        wish = {"operation": self.operation, "beat": self.beat, "request": self.request}
        return {**wish, "sure": self.is_sure}


class HeldSession:
    """A pod that the holder has a link to. It has the attributes of `PodSession`, whose place it takes."""

    learned: str | None = None
    learned_on_the_way: Mapping[str, str] = MappingProxyType({})

    def __init__(self, pod: str, ssh: str, first: Conversation, log_in: LogIn, stack: AsyncExitStack) -> None:
        """`first` is the conversation that has shown that there is a link; `log_in` is the other way."""
        self.pod, self.ssh = pod, ssh
        self.host, self.silence = first.host, first.silence
        self._first: Conversation | None = first
        self._log_in, self._stack = log_in, stack
        self._own: PodSession | None = None
        self._logging_in, self._has_own, self._lost = asyncio.Lock(), asyncio.Event(), asyncio.Event()
        self.is_doubtful = False
        """Whether the link has once given no sign of life."""

    @property
    def own_session(self) -> PodSession | None:
        """Return this command's own connection, if it has made one."""
        return self._own

    async def own(self, deadline: asyncio.Timeout | None = None, first: First | None = None) -> PodSession:
        """Return this command's own connection, which is made now if it is not there; `deadline` waits for that.

        `first` is as of `PodSession.logged_in`.
        """
        if self._own is None:
            with _paused(deadline, self.silence):
                await self._connect(first)
        assert self._own
        return self._own

    async def operate(
        self, wish: Wish, sink: OutputSink, *, deadline: asyncio.Timeout, exit_timeout: Callable[[], float]
    ) -> Completed | None:
        """Run an operation over the link; None if nothing of it was done, and the own connection has to be used.

        Raises `PodUnreachable` if the link is lost when it may have been done.
        """
        if not messages.is_taken(wish.operation, wish.request, is_sure=wish.is_sure):
            return None
        if (talk := await self._conversation()) is None:
            return None
        try:
            with _paused(deadline, self.silence):
                is_alive = await self._is_alive(talk, talk.wish(wish.message()))
            if not is_alive:
                return None
            if wish.is_sure:
                talk.confirm()
            done = await talk.relay(sink, exit_timeout)
        finally:
            talk.close()
        if done is None and (wish.is_sure or talk.has_passed_on):
            raise PodUnreachable(self.pod, "the connection was lost")
        debug.note(f"{self.pod}: {wish.operation} over the held link: {done and done.status}")
        return done

    async def open_stream(self, port: int) -> Any:
        """Open a connection to the port of a model, as `PodSession.open_stream` does."""
        talk = await self._conversation()
        if talk is None:
            return await (await self.own()).open_stream(port)
        is_open = False
        try:
            answers: list[int] = []

            async def ask() -> bool:
                answers.append(await talk.open(port))
                return answers[0] != messages.LOST

            if not await self._is_alive(talk, ask()):
                return await (await self.own()).open_stream(port)
            if answers == [messages.CLOSED]:
                from pi_cli.ssh.session import PortClosed

                raise PortClosed(f"port {port}")
            is_open = True
        finally:
            if not is_open:
                talk.close()
        return stream.Reader(talk, self._lost.set), stream.Writer(talk)

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """Do what `PodSession.while_connected` does, also for a link that is lost while something comes over it."""
        watching = asyncio.create_task(self._watch_own())
        try:
            async with losses.ended_by(self._lost.wait(), self.pod, self._lost.is_set):
                yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch_own(self) -> None:
        """Say that the connection is lost when this command's own is."""
        await self._has_own.wait()
        assert self._own
        with suppress(PiError):
            async with self._own.while_connected():
                await asyncio.Event().wait()
        self._lost.set()

    async def _conversation(self) -> Conversation | None:
        """Return a new conversation with the holder; None if this command has a connection of its own already."""
        if self._own:
            return None
        first, self._first = self._first, None
        return first or await conversation.begin(self.pod, self.ssh)

    async def _is_alive(self, talk: Conversation, asking: Coroutine[Any, Any, bool]) -> bool:
        """Return whether the link gives a sign of life before this command has logged in, which it begins when none
        has come after the link's patience."""
        sign = asyncio.create_task(asking)
        try:
            await asyncio.wait([sign], timeout=talk.patience)
            if not sign.done():
                debug.note(f"{self.pod}: no sign of the held link after {talk.patience:.2f} s; logging in as well")
                await self._race(sign)
            is_alive = sign.done() and sign.result()
            self.is_doubtful = self.is_doubtful or not is_alive
            return is_alive
        finally:
            sign.cancel()
            await asyncio.wait([sign])

    async def _race(self, sign: asyncio.Task[bool]) -> None:
        """Log in until there is a sign of the link. If the login fails first, the link has a last chance."""
        connecting = asyncio.create_task(self._connect())
        try:
            await asyncio.wait([sign, connecting], return_when=asyncio.FIRST_COMPLETED)
            if connecting.done() and connecting.exception():
                await asyncio.wait([sign], timeout=LAST_CHANCE)
            if not (sign.done() and sign.result()):
                await connecting
        finally:
            connecting.cancel()
            await asyncio.wait([connecting])

    async def _connect(self, first: First | None = None) -> None:
        async with self._logging_in, AsyncExitStack() as attempt:
            if self._own is None:
                session = await attempt.enter_async_context(self._log_in())
                await session.logged_in(first)
                self._stack.push_async_exit(attempt.pop_all())
                self._own = session
                self._has_own.set()

    async def logged_in(self, first: First | None = None) -> None:
        """Do nothing: a link is logged in, and this command's own connection, if it has to be made, waits itself."""
        del first

    # What only a connection of its own can do.

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set() or (self._own is not None and self._own.is_lost)

    @property
    def host_key(self) -> str:
        assert self._own, "setup logs in itself"
        return self._own.host_key

    async def run(self, command: str, *, input: bytes = b"") -> Completed:
        return await (await self.own()).run(command, input=input)

    async def stream(self, command: str, sink: OutputSink, **options: Any) -> Completed:
        return await (await self.own()).stream(command, sink, **options)

    async def open_ahead(self, command: str) -> None:
        await (await self.own()).open_ahead(command)

    async def require_forwarding(self, *, or_runs_nothing: bool = False) -> None:
        await (await self.own()).require_forwarding(or_runs_nothing=or_runs_nothing)


@contextmanager
def _paused(deadline: asyncio.Timeout | None, seconds: float) -> Iterator[None]:
    """While the block runs, the deadline does not pass; it is in `seconds` afterwards."""
    with suppress(RuntimeError):  # it has passed already
        if deadline:
            deadline.reschedule(None)
    yield
    with suppress(RuntimeError):
        if deadline:
            deadline.reschedule(asyncio.get_running_loop().time() + seconds)

"""An agent whose process answers two requests: the second costs one round trip, no channel, no program, no Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pi_cli import waits
from pi_cli.pods import agent_link
from pi_cli.pods.agent_link import MarkedLines, OnEvent, PodHangs
from pi_cli.ssh.completed import EXIT_TIMEOUT, Completed

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.pods.sending import Sending
    from pi_cli.ssh.session import PodSession


class StayingAgent:
    """One process of the agent on a pod; it lives while the block of `opened` runs, and is not shared by tasks."""

    def __init__(self, session: PodSession, then: str) -> None:
        self.pod = session.pod
        self._session, self._then = session, then
        self._inputs: asyncio.Queue[bytes] = asyncio.Queue()
        self._process: asyncio.Task[Completed] | None = None
        self._lines: MarkedLines | None = None
        self._hangs = self._is_done = False

    async def ask(self, operation: protocol.Operation, request: protocol.Request, on_event: OnEvent) -> protocol.Reply:
        """Run an operation as `agent_link.ask` does, with the same errors."""
        answer: asyncio.Future[protocol.Reply] = asyncio.get_running_loop().create_future()
        sending = await self._begun(operation, request)
        clock, silence = asyncio.get_running_loop().time, self._session.silence
        try:
            async with asyncio.timeout(silence) as deadline:
                with waits.on("waiting for", self.pod) as answered:

                    def dispatch(message: protocol.Message) -> None:
                        deadline.reschedule(clock() + silence)
                        if "event" not in message:
                            answered()
                            answer.set_result(message)
                        elif message["event"] not in ("beat", "kept"):  # it is not asked to keep its program
                            answered()
                            on_event(message)

                    self._lines = lines = MarkedLines(self.pod, dispatch)
                    process = self._send(operation, request, sending)
                    ends: list[asyncio.Future[Any]] = [process, answer]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            if not answer.done():
                self._hangs = True
                raise PodHangs(self.pod, silence) from error
        if not answer.done():
            agent_link.raise_no_answer(self._session, process.result(), lines.noise)
        return answer.result()

    async def _begun(self, operation: protocol.Operation, request: protocol.Request) -> Sending | None:
        """Wait for the login, and return the first request, which may travel with it."""
        if self._process:
            return None
        from pi_cli.pods import agent_program
        from pi_cli.pods.sending import Sending

        program = agent_program.packed(agent_link.needs(operation, request))
        sending = Sending(self.pod, program, agent_link.envelope(self._session, operation, request, stays=True))
        self._session = await agent_link.own_connection(self._session, operation, sending)
        return sending

    def _send(
        self, operation: protocol.Operation, request: protocol.Request, sending: Sending | None
    ) -> asyncio.Task[Completed]:
        """Send a request; behind the first one, also the program of the second, while the pod works on the first."""
        needs = agent_link.needs(operation, request)
        if self._process is None:
            assert sending
            from pi_cli.pods import agent_program
            from pi_cli.pods.sending import with_size

            has = frozenset(agent_program.names(needs))
            self._inputs.put_nowait(with_size(agent_program.packed(self._then, has)))
            self._process = asyncio.create_task(
                self._session.stream(
                    sending.command,
                    self._hear,
                    input=sending.input,
                    more=self._later_inputs(),
                    exit_timeout=self._exit_timeout,
                )
            )
        else:
            assert needs == self._then
            self._inputs.put_nowait(agent_link.envelope(self._session, operation, request))
            self._is_done = True
        return self._process

    def _hear(self, chunk: bytes) -> None:
        assert self._lines
        self._lines.feed(chunk)

    async def _later_inputs(self) -> AsyncIterator[bytes]:
        """Yield what follows the first request; stdin stays open behind it."""
        while True:
            yield await self._inputs.get()

    def _exit_timeout(self) -> float:
        return 0.0 if self._hangs else EXIT_TIMEOUT  # what hangs cleans up nothing

    async def _finish(self) -> None:
        """Let the process exit, which it does after its last answer."""
        if self._process and self._is_done:
            await asyncio.wait([self._process], timeout=EXIT_TIMEOUT)
        await self._end()

    async def _end(self) -> None:
        """End the process, which exits when its stdin does."""
        if self._process is None:
            return
        self._process.cancel()
        await asyncio.wait([self._process])
        if not self._process.cancelled():
            self._process.exception()  # known to who has asked


@asynccontextmanager
async def opened(session: PodSession, *, then: str) -> AsyncIterator[StayingAgent]:
    """Give an agent for any request, and after it one of the operation `then` (of `agent_program`)."""
    agent = StayingAgent(session, then)
    try:
        yield agent
    except BaseException:
        await agent._end()
        raise
    await agent._finish()

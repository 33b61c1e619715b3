"""The holder's side of one wish: an operation of the agent, or a connection to the port of a model."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pi_cli.errors import PiError
from pi_cli.hold import link, messages
from pi_cli.hold.link import Link, Waiting
from pi_cli.hold.quiet import Quiet
from pi_cli.ssh.session import FAILURES, PortClosed
from pi_cli.store import state

COPY_SIZE = 1 << 16  # bytes read at a time, at most


@dataclass(frozen=True, slots=True)
class Relay:
    """Between a command and a pod; nothing that it passes on is kept."""

    link: Link
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    protocol: int
    quiet: Quiet

    async def serve(self, wish: dict[str, Any]) -> None:
        if "port" in wish:
            await self._connect(wish["port"])
            return
        is_sure = wish.get("sure") is True
        if messages.is_taken(wish.get("operation"), wish.get("request"), is_sure=is_sure):
            await self._operate(wish, is_sure=is_sure)

    async def _operate(self, wish: dict[str, Any], *, is_sure: bool) -> None:
        agent = self.link.take()
        if agent is None:
            self._send(messages.LOST)
            return
        begun, was_loaded = link.clock(), agent.has_waited
        line = link.wish_line(wish, self.protocol)
        agent.ask()
        if not is_sure:
            agent.begin(line, self._pass_on)
        leaving = asyncio.create_task(self._is_left(is_sure=is_sure, agent=agent, line=line))
        try:
            with self.quiet.asking():
                if await agent.is_there():
                    if was_loaded:
                        self.link.round_trip = link.clock() - begun
                    if is_sure:
                        self._send(messages.THERE)
                await asyncio.wait([agent.task, leaving], return_when=asyncio.FIRST_COMPLETED)
            if agent.is_over:
                self._say_how_it_ended(agent)
        finally:
            leaving.cancel()
            agent.task.cancel()  # its stdin ends, and it has a moment to clean up
            await asyncio.gather(agent.task, leaving, return_exceptions=True)

    async def _connect(self, port: object) -> None:
        """Connect the command to the port of a model; other ports of the pod are not open to it."""
        session = self.link.session
        ports = [model.port for model in state.load().pod(self.link.pod).models.values()]
        if session is None or not isinstance(port, int) or port not in ports:
            self._send(messages.LOST)
            return
        begun = link.clock()
        try:
            from_pod, to_pod = await session.open_stream(port)
        except PortClosed:
            self._send(messages.CLOSED)
            return
        except PiError:
            self._send(messages.LOST)
            return
        self.link.round_trip = link.clock() - begun
        self._send(messages.THERE)
        sending = asyncio.create_task(self._send_to(to_pod))
        answering = asyncio.create_task(self._answer_from(from_pod))
        try:
            await asyncio.wait([sending, answering], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done() or not sending.result():  # else the command has left
                await answering
        finally:
            to_pod.channel.abort()
            for each in (sending, answering):
                each.cancel()
            await asyncio.gather(sending, answering, return_exceptions=True)

    async def _send_to(self, to_pod: Any) -> bool:
        """Pass on what the command sends; return whether it has closed both ends."""
        with suppress(*FAILURES):
            while data := await self.reader.read(COPY_SIZE):
                to_pod.write(data)
                await to_pod.drain()
            to_pod.write_eof()
        return self.writer.is_closing()

    async def _answer_from(self, from_pod: Any) -> None:
        try:
            while data := await from_pod.read(COPY_SIZE):
                await self._pass_on(data)
        except FAILURES:
            self._send(messages.LOST)
            return
        self._send(messages.LOST if self.link.session is None else messages.END)
        await self._drained()

    async def _is_left(self, *, is_sure: bool, agent: Waiting, line: bytes) -> None:
        """Wait until the command closes its end; send a wish that has to be sure once it is confirmed."""
        if is_sure:
            if await self.reader.readline() != messages.GO:
                return
            agent.begin(line, self._pass_on)
        await self.reader.read(1)

    def _pass_on(self, output: bytes) -> Any:
        for begin in range(0, len(output), messages.MAX_PART):
            self._send(messages.OUTPUT, output[begin : begin + messages.MAX_PART])
        return self._drained()

    async def _drained(self) -> None:
        with suppress(OSError):
            await self.writer.drain()

    def _send(self, kind: int, data: bytes = b"") -> None:
        self.writer.write(messages.part(kind, data))

    def _say_how_it_ended(self, agent: Waiting) -> None:
        try:
            done = agent.task.result()
        except PiError:
            self._send(messages.LOST)
            return
        stderr = done.stderr.decode("utf-8", "replace")[-COPY_SIZE:]
        self._send(messages.END, messages.line({"status": done.status, "stderr": stderr}))

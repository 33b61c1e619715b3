"""A command's side of one wish to the holder."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pi_cli.hold import client, messages, place
from pi_cli.ssh.completed import Completed, OutputSink

Part = tuple[int, bytes]
NOTHING: Part = (messages.LOST, b"")


class Conversation:
    """A connection to the holder, which has a link to the pod at `host`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, greeting: dict[str, Any]) -> None:
        self._reader, self._writer = reader, writer
        self._first: Part | None = None
        self.host = str(greeting.get("host", ""))
        self.silence = messages.number(greeting.get("silence"))
        self.patience = messages.patience(messages.number(greeting.get("rtt")))
        self.has_passed_on = False
        """Whether any output of the agent was passed on."""

    async def wish(self, message: dict[str, Any]) -> bool:
        """Send a wish; return whether the pod has given a sign of life, False if the link is lost."""
        self._writer.write(messages.line(message))
        self._first = await self._part()
        return self._first[0] != messages.LOST

    def confirm(self) -> None:
        """Let the holder send a wish that has to be sure."""
        self._writer.write(messages.GO)

    async def relay(self, sink: OutputSink, exit_timeout: Callable[[], float]) -> Completed | None:
        """Pass on the agent's output until it has ended; None if the link is lost.

        When the caller is cancelled or fails, the agent has `exit_timeout()` seconds to clean up.
        """
        try:
            part, self._first = self._first or NOTHING, None
            while True:
                kind, data = part
                if kind == messages.LOST:
                    return None
                if kind == messages.END:
                    end = messages.read(data)
                    status = end.get("status")
                    stderr = str(end.get("stderr", "")).encode("utf-8", "replace")
                    return Completed(status if isinstance(status, int) else 1, b"", stderr)
                if data:
                    self.has_passed_on = True
                    if waiting := sink(data):
                        await waiting
                part = await self._part()
        except BaseException:
            await self._leave(exit_timeout())
            raise

    async def open(self, port: int) -> int:
        """Ask for a connection to the port of a model; return `THERE`, `CLOSED` or `LOST`."""
        self._writer.write(messages.line({"port": port}))
        kind, _ = await self._part()
        return kind if kind in (messages.THERE, messages.CLOSED) else messages.LOST

    async def next(self) -> bytes:
        """Return what comes from a port, nothing at its end. Raises `ConnectionResetError` if the link is lost."""
        kind, data = await self._part()
        if kind == messages.LOST:
            raise ConnectionResetError("the held link was lost")
        return data if kind == messages.OUTPUT else b""

    @property
    def writer(self) -> asyncio.StreamWriter:
        return self._writer

    def close(self) -> None:
        self._writer.transport.abort()

    async def _part(self) -> Part:
        try:
            kind, size = messages.PART.unpack(await self._reader.readexactly(messages.PART.size))
            if size > messages.MAX_PART:
                return NOTHING
            return kind, await self._reader.readexactly(size)
        except (OSError, EOFError):
            return NOTHING

    async def _leave(self, seconds: float) -> None:
        """End the agent's stdin, and give it a moment; what it still prints is discarded."""
        with suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(seconds):
                while await self._reader.read(1 << 16):
                    pass


async def begin(pod: str, ssh: str) -> Conversation | None:
    """Connect to the holder; None if it has no link to this pod, or does not answer at once."""
    if not place.is_on() or (connection := client.open_socket()) is None:
        return None
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=messages.MAX_PART)
    greeting: dict[str, Any] = {}
    try:
        with suppress(OSError, ValueError, TimeoutError):
            async with asyncio.timeout(messages.PATIENCE):
                writer.write(messages.line({"pod": pod, "ssh": ssh}))
                greeting = messages.read(await reader.readline())
    finally:
        if greeting.get("linked") is not True:
            writer.transport.abort()
    return Conversation(reader, writer, greeting) if greeting.get("linked") is True else None

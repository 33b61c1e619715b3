"""Ports of this machine that lead to a pod, and stay open while the connection to it is lost and made again."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

from pi_cli.errors import BadUsage, PodUnreachable
from pi_cli.ssh import reconnect
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import NobodyListens, PodSession
from pi_cli.store.records import Pod

LOOPBACK = "127.0.0.1"
CHUNK = 1 << 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all

Stream = tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]
Way = Callable[[], Awaitable[Stream]]
"""Opens a connection on the pod. Raises `NobodyListens`, or `PodUnreachable`."""


class LocalPort:
    """A port on this machine's loopback. Who connects is led to a pod; while there is no way there, let go at once."""

    number: int

    def __init__(self) -> None:
        self._session: PodSession | None = None
        self._way: Way | None = None
        self._visits: set[asyncio.Task[bool]] = set()

    def lead(self, session: PodSession, way: Way) -> None:
        """Let whoever comes from now on go this way."""
        self._session, self._way = session, way

    def shut(self) -> None:
        """Let go of all who are connected, and of whoever comes."""
        self._session = self._way = None
        for visit in self._visits:
            visit.cancel()

    async def wait_until_empty(self) -> None:
        await asyncio.gather(*self._visits, return_exceptions=True)  # what was a bug, asyncio has shown

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end.

        The task is ours, not one of asyncio's: when those are cancelled, Python 3.11 prints a traceback.
        """
        session, way = self._session, self._way
        if not (session and way):
            writer.close()
            return
        visit = asyncio.create_task(_carry(reader, writer, way))
        self._visits.add(visit)
        visit.add_done_callback(lambda visit: self._see_off(visit, writer, session))

    def _see_off(self, visit: asyncio.Task[bool], writer: asyncio.StreamWriter, session: PodSession) -> None:
        """Close a connection; one that was cut ends with a reset, so that no answer looks complete."""
        self._visits.discard(visit)
        is_whole = False
        try:
            with suppress(asyncio.CancelledError, NobodyListens, PodUnreachable):
                is_whole = visit.result() and not session.is_lost
        finally:
            if is_whole:
                writer.close()
            else:
                with suppress(OSError):
                    raw: socket.socket = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()


@asynccontextmanager
async def opened(ports: Iterable[int]) -> AsyncIterator[LocalPort]:
    """Keep the first of some ports that is free on the loopback open while the block runs; 0 is any."""
    port = LocalPort()
    server = await _listen(port, ports)
    try:
        port.number = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        port.shut()
        await port.wait_until_empty()


async def hold(
    name: str, pod: Pod, use: Callable[[PodSession], Awaitable[NoReturn]], reconnection: Reconnection
) -> NoReturn:
    """Be connected to a pod for ever: `use` every connection, and when it is lost make another one.

    Raises what `reconnect.keep_connected` does, and an error where sshd forbids forwarding.
    """

    async def use_while_connected(session: PodSession) -> NoReturn:
        await session.require_forwarding()
        reconnection.connected()
        async with session.while_connected():
            await use(session)

    await reconnect.keep_connected(name, pod, use_while_connected, reconnection)


async def _listen(port: LocalPort, numbers: Iterable[int]) -> asyncio.Server:
    why: OSError | None = None
    number = 0
    for number in numbers:
        try:
            return await asyncio.start_server(port.meet, LOOPBACK, number)
        except OSError as error:
            why = error
    raise BadUsage(
        f"port {number} of this machine cannot be used: {os.strerror(why.errno or 0) if why else 'there is none'}",
        hint="leave out `--port`, and a free one is chosen",
    )


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> bool:
    """Carry bytes both ways until both ends have said all; tell whether it came to that."""
    from_pod, to_pod = await way()
    is_whole = True
    try:
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_pass_on(reader, to_pod))
            ways.create_task(_pass_on(from_pod, writer))
    except* (OSError, asyncssh.Error):
        is_whole = False
    finally:
        to_pod.channel.abort()
    return is_whole


async def _pass_on(source: Any, target: Any) -> None:
    while chunk := await source.read(CHUNK):
        target.write(chunk)
        await target.drain()
    target.write_eof()

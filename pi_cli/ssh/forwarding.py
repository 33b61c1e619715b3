"""Local ports that are forwarded to a pod, and stay open while pi reconnects after a lost connection."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, Protocol

from pi_cli.errors import BadUsage, PiError
from pi_cli.ssh import reconnect, sockets
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import PodSession, PortClosed
from pi_cli.store.records import Pod

LOOPBACK = "127.0.0.1"
COPY_SIZE = 1 << 16  # bytes read at a time, at most
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for zero seconds

Stream = tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]
OpenStream = Callable[[], Awaitable[Stream]]
"""Opens a connection on the pod. Raises `PortClosed` or `PiError`."""
Answer = Callable[[bytes], bytes | None]
"""Returns the answer of the port itself to a request, or None if the request is for the pod."""


class NotPassed(Exception):
    """A client's bytes are not passed on; it gets `answer`, and the connection ends."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class Requests(Protocol):
    """Changes what the client of one connection sends. While it `awaits_answer`, it is not fed."""

    awaits_answer: bool

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on now. Raises `NotPassed`."""

    def answered(self, first: bytes) -> bytes:
        """Take the first bytes of the answer that it awaits, and return what can be passed on now."""


class LocalPort:
    """A loopback port forwarded to a pod; it closes connections while the pod cannot be reached."""

    number: int

    def __init__(self) -> None:
        self._session: PodSession | None = None
        self._open_stream: OpenStream | None = None
        self._answer: Answer = lambda _: None
        self._requests: Callable[[], Requests] | None = None
        self._on_cut: Callable[[], None] = lambda: None
        self._connections: set[asyncio.Task[bool]] = set()

    def answer_with(self, answer: Answer) -> None:
        """Answer some requests here: those for which `answer` does not return None."""
        self._answer = answer

    def change_requests(self, requests: Callable[[], Requests]) -> None:
        """Pass what clients send through a new `Requests` for each connection."""
        self._requests = requests

    def forward_to(self, session: PodSession, open_stream: OpenStream, on_cut: Callable[[], None]) -> None:
        """Forward new connections through `open_stream`; call `on_cut` when one ends before everything was sent."""
        self._session, self._open_stream, self._on_cut = session, open_stream, on_cut

    def disconnect(self) -> None:
        """Close all connections, and new ones as soon as they are made."""
        self._session = self._open_stream = None
        for connection in self._connections:
            connection.cancel()

    async def wait_until_closed(self) -> None:
        await asyncio.gather(*self._connections, return_exceptions=True)  # asyncio has logged any bug already

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end.

        The task is ours and not one of asyncio's: when those are cancelled, Python 3.11 prints a traceback.
        """
        session, open_stream = self._session, self._open_stream
        if not (session and open_stream):
            writer.close()
            return
        connection = asyncio.create_task(self._relay(reader, writer, open_stream))
        self._connections.add(connection)
        connection.add_done_callback(lambda connection: self._close(connection, writer, session))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open_stream: OpenStream) -> bool:
        """Copy bytes both ways until both ends have sent everything; return whether the transfer is complete.

        The connection on the pod is opened for the first bytes: a server closes one on which nothing comes.
        """
        try:
            first = await reader.read(COPY_SIZE)
        except OSError:
            return False
        if not first:
            return True
        if own_answer := self._answer(first):
            writer.write(own_answer)
            return True
        from_pod, to_pod = await open_stream()
        answers = _Answers(from_pod)
        is_complete = True
        try:
            async with asyncio.TaskGroup() as directions:
                if self._requests:
                    directions.create_task(_copy_requests(first, reader, to_pod, self._requests(), answers))
                else:
                    to_pod.write(first)
                    directions.create_task(_copy(reader, to_pod))
                directions.create_task(_copy(answers, writer))
        except* NotPassed as refused:
            writer.write(next(error.answer for error in refused.exceptions if isinstance(error, NotPassed)))
        except* (OSError, asyncssh.Error):
            is_complete = False
        finally:
            to_pod.channel.abort()
        return is_complete

    def _close(self, connection: asyncio.Task[bool], writer: asyncio.StreamWriter, session: PodSession) -> None:
        """Close a connection; reset the socket if the transfer was cut short, so that no answer looks complete."""
        self._connections.discard(connection)
        is_complete = False
        try:
            with suppress(asyncio.CancelledError, PortClosed, PiError):
                is_complete = connection.result() and not session.is_lost
        finally:
            if is_complete:
                writer.close()
            else:
                self._on_cut()
                with suppress(OSError):
                    raw: socket.socket = writer.get_extra_info("socket")
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                writer.transport.abort()


@asynccontextmanager
async def opened_socket(session: PodSession, open_stream: OpenStream) -> AsyncIterator[Path]:
    """Forward a unix socket while the block runs; other users of this machine cannot connect to it."""
    port = LocalPort()
    port.forward_to(session, open_stream, on_cut=lambda: None)
    with sockets.path() as path:
        server = await asyncio.start_unix_server(port.serve, path)
        try:
            async with session.while_connected():
                yield path
        finally:
            server.close()
            port.disconnect()
            await port.wait_until_closed()


@asynccontextmanager
async def opened(ports: Iterable[int]) -> AsyncIterator[LocalPort]:
    """Listen on the first free port of `ports` on the loopback while the block runs; 0 means any."""
    port = LocalPort()
    server = await _listen(port, ports)
    try:
        port.number = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        port.disconnect()
        await port.wait_until_closed()


async def keep_forwarding(
    name: str,
    pod: Pod,
    use: Callable[[PodSession, Awaitable[None]], Awaitable[NoReturn]],
    reconnection: Reconnection,
    *,
    keepalive: float | None = None,
) -> NoReturn:
    """Stay connected to a pod whose sshd allows forwarding, and run `use` on each connection until that is lost.

    Whether sshd allows it is asked at the same time: `use` awaits its second argument before it forwards anything.
    `keepalive` is as of `login.connect`.

    Raises what `reconnect.keep_connected` raises, and `PodUnreachable` if sshd forbids forwarding.
    """

    async def use_while_connected(session: PodSession) -> NoReturn:
        async def check() -> None:
            await session.require_forwarding()
            reconnection.connected()

        checking = asyncio.create_task(check())
        checking.add_done_callback(lambda task: task.cancelled() or task.exception())  # `use` may end before it asks
        try:
            async with session.while_connected():
                await use(session, checking)
        finally:
            checking.cancel()

    await reconnect.keep_connected(name, pod, use_while_connected, reconnection, keepalive=keepalive)


async def _listen(port: LocalPort, numbers: Iterable[int]) -> asyncio.Server:
    failure: OSError | None = None
    number = 0
    for number in numbers:
        try:
            return await asyncio.start_server(port.serve, LOOPBACK, number)
        except OSError as error:
            failure = error
    reason = os.strerror(failure.errno or 0) if failure else "no port is left to try"
    raise BadUsage(
        f"port {number} of this machine cannot be used: {reason}",
        hint="leave out `--port`, and pi chooses a free one",
    )


class _Answers:
    """What comes from the pod; `next` has the bytes that come after it was made."""

    def __init__(self, source: asyncssh.SSHReader[bytes]) -> None:
        self._source = source
        self.next: asyncio.Future[bytes] | None = None

    async def read(self, size: int) -> bytes:
        data = await self._source.read(size)
        if self.next and not self.next.done():
            self.next.set_result(data)
        return data


async def _copy_requests(
    data: bytes, source: asyncio.StreamReader, target: Any, requests: Requests, answers: _Answers
) -> None:
    while data:
        passed = requests.feed(data)
        while requests.awaits_answer:
            answers.next = asyncio.get_running_loop().create_future()
            await _send(passed, target)
            passed = requests.answered(await answers.next)
        await _send(passed, target)
        data = await source.read(COPY_SIZE)
    target.write_eof()


async def _send(data: bytes, target: Any) -> None:
    if data:
        target.write(data)
        await target.drain()


async def _copy(source: Any, target: Any) -> None:
    while chunk := await source.read(COPY_SIZE):
        target.write(chunk)
        await target.drain()
    target.write_eof()

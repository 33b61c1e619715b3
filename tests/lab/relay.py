"""A way to a pod that has faults: it is long, narrow, cut off, silent, or closed to those who come.

with Relay(pod.address, pod.port, delay=0.2, rate=16_000) as way:
    subprocess.run(["ssh", "-p", str(way.port), "root@127.0.0.1"])
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time at all
CHUNK = 4096


class Relay:
    """A TCP port of this machine that leads to another one; leaving the `with` block cuts what goes through it.

    `delay` is in seconds and `rate` in bytes per second, both each way. `reset_after` and `silent_after` are bytes that
    a connection carries, both ways together, before it is reset or carries nothing any more. The first `turned_away`
    connections are closed at once, after a last word if there is one. `listen` is an address of this machine.
    """

    port: int

    def __init__(
        self,
        address: str,
        port: int,
        *,
        listen: str = "127.0.0.1",
        delay: float = 0.0,
        rate: float | None = None,
        reset_after: int | None = None,
        silent_after: int | None = None,
        turned_away: float = 0,
        last_word: bytes = b"",
    ) -> None:
        self.carried = 0  # bytes, over all connections
        self.met = 0  # connections
        self._target, self._listen = (address, port), listen
        self._delay, self._rate = delay, rate
        self._reset_after, self._silent_after = reset_after, silent_after
        self._turned_away, self._last_word = turned_away, last_word
        self._is_silent = self._is_blocked = False
        self._connections: list[_Connection] = []
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_open.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def fall_silent(self) -> None:
        """Carry nothing any more, and go on accepting connections."""
        self._is_silent = True

    def stall(self) -> None:
        """Carry nothing any more over the present connections; new ones are as before."""
        for connection in self._connections:
            connection.is_stalled = True

    def speak_again(self) -> None:
        """Carry what comes from now on; a connection that was silent meanwhile has lost bytes, and is no good."""
        self._is_silent = False

    def cut_each_after(self, carried: int) -> None:
        """Reset each connection to come when it has carried this many bytes."""
        self._reset_after = carried

    def cut(self) -> None:
        """Reset every connection, and go on accepting new ones."""

        def reset() -> None:
            for connection in self._connections:
                connection.reset()

        self._loop.call_soon_threadsafe(reset)

    def block(self) -> None:
        """Reset every connection, and close new ones at once."""
        self._is_blocked = True
        self.cut()

    def unblock(self) -> None:
        self._is_blocked = False

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        meetings: set[asyncio.Task[None]] = set()

        def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            meetings.add(asyncio.create_task(self._meet(reader, writer)))

        server = await asyncio.start_server(meet, self._listen, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_open.set()
        await self._end.wait()
        server.close()
        for meeting in meetings:
            meeting.cancel()
        await asyncio.gather(*meetings, return_exceptions=True)
        await asyncio.sleep(0)  # the aborted transports close their sockets

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        connection = _Connection([writer])
        self._connections.append(connection)
        try:
            if self._is_blocked:
                return
            if self.met <= self._turned_away:
                writer.write(self._last_word)
                return
            with suppress(OSError):  # either end may hang up at any time
                there, to_there = await asyncio.open_connection(*self._target)
                connection.ends.append(to_there)
                await _first_of(
                    self._carry(reader, to_there, connection),
                    self._carry(there, writer, connection),
                )
        finally:
            self._connections.remove(connection)
            for end in connection.ends:
                if self._end.is_set():
                    end.transport.abort()  # `close` waits until the other end has read all
                else:
                    end.close()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: "_Connection"
    ) -> None:
        """Carry bytes one way until there are no more."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take() -> None:
            chunk = b"-"
            while chunk:
                chunk = await reader.read(CHUNK)
                on_the_way.put_nowait((self._loop.time(), chunk))

        async def deliver() -> None:
            is_free_at = 0.0
            while (item := await on_the_way.get())[1]:
                is_free_at = max(item[0], is_free_at) + (len(item[1]) / self._rate if self._rate else 0.0)
                await asyncio.sleep(is_free_at + self._delay - self._loop.time())
                await self._hand_over(item[1], writer, connection)

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            group.create_task(deliver())

    async def _hand_over(self, chunk: bytes, writer: asyncio.StreamWriter, connection: "_Connection") -> None:
        limit = self._reset_after if self._silent_after is None else self._silent_after
        if limit is not None:
            chunk = chunk[: max(0, limit - connection.carried)]
        if not self._is_silent and not connection.is_stalled:
            writer.write(chunk)
            await writer.drain()
            connection.carried += len(chunk)
            self.carried += len(chunk)
        if limit is not None and connection.carried >= limit and self._reset_after is not None:
            connection.reset()


@dataclass(slots=True, eq=False)
class _Connection:
    ends: list[asyncio.StreamWriter]
    carried: int = 0
    is_stalled: bool = False

    def reset(self) -> None:
        for end in self.ends:
            raw: socket.socket = end.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            end.transport.abort()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    """Return when one way has come to its end, or failed."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

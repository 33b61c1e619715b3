"""What a server sends is bounded: it decides neither how much memory pi takes, nor for how long it reads."""

import asyncio
import gzip
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from pathlib import Path

import httpx2
import pytest

from pi_cli.models import plain_http
from pi_cli.models.plain_http import MAX_ANSWER, MAX_ERROR, MAX_EVENT, MIB, AnswerTooLarge

EVENTS = b"content-type: text/event-stream\r\n"
PIECE = b"x" * 65536
SLACK = 16 * MIB  # in the buffers on the way


class Server:
    """A server on a unix socket that sends a head and then pieces, endless ones if need be; `sent` are their bytes."""

    def __init__(self, pieces: Iterator[bytes], *, status: int = 200, headers: bytes = b"") -> None:
        self._pieces, self._status, self._headers = pieces, status, headers
        self.sent = 0
        self.asked = b""

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.asked = await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 %d Status\r\nconnection: close\r\n%s\r\n" % (self._status, self._headers))
            for piece in self._pieces:
                writer.write(piece)
                await writer.drain()
                self.sent += len(piece)
        writer.close()


@asynccontextmanager
async def asking(server: Server) -> AsyncIterator[httpx2.AsyncClient]:
    with tempfile.TemporaryDirectory() as folder:  # the paths of pytest's own are too long for a socket
        socket = Path(folder) / "model.sock"
        async with (
            await asyncio.start_unix_server(server, socket),
            httpx2.AsyncClient(transport=plain_http.over(socket), base_url="http://pod") as client,
        ):
            yield client


def read(server: Server) -> httpx2.Response:
    async def get() -> httpx2.Response:
        async with asyncio.timeout(60), asking(server) as client:
            return await client.get("/")

    return asyncio.run(get())


def test_nothing_compressed_is_asked_for_or_taken() -> None:
    bomb = gzip.compress(bytes(MIB))
    server = Server(iter([bomb]), headers=b"content-encoding: gzip\r\n")
    with pytest.raises(AnswerTooLarge, match="compressed with 'gzip', which pi does not ask for"):
        read(server)
    assert b"accept-encoding: identity\r\n" in server.asked.lower()


def test_an_answer_without_end_is_cut() -> None:
    server = Server(repeat(PIECE))
    with pytest.raises(AnswerTooLarge, match="more than 64 MiB"):
        read(server)
    assert server.sent < MAX_ANSWER + SLACK


@pytest.mark.parametrize("piece", [PIECE, b"data: x\n" * 8192])
def test_an_event_without_end_is_cut(piece: bytes) -> None:
    server = Server(repeat(piece), headers=EVENTS)
    with pytest.raises(AnswerTooLarge, match="an event of more than 16 MiB"):
        read(server)
    assert server.sent < MAX_EVENT + SLACK


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_many_short_events_are_taken(end: bytes) -> None:
    event = b"data: " + PIECE + end
    assert len(read(Server(iter([event] * 400), headers=EVENTS)).content) == 400 * len(event)
    parts = [event[:-1], event[-1:]] * 400  # the blank line is cut in two
    assert len(read(Server(iter(parts), headers=EVENTS)).content) == 400 * len(event)


@pytest.mark.parametrize("status", [400, 401, 500])
def test_of_an_error_without_end_the_beginning_is_read(status: int) -> None:
    server = Server(repeat(PIECE), status=status)
    response = read(server)
    assert (response.status_code, len(response.content)) == (status, MAX_ERROR)
    assert server.sent < SLACK

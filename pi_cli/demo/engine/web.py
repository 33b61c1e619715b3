"""A small HTTP/1.1 server for one ASGI application: keep-alive, bodies with a length, chunked answers."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pi_cli.demo.engine.log import LogWriter

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}
PHRASES |= {500: "Internal Server Error", 503: "Service Unavailable"}


async def start(app: App, listener: socket.socket, log: LogWriter) -> asyncio.Server:
    """Start the lifespan of `app`, then listen on a bound socket and answer every request with `app`."""
    await _begin_lifespan(app)

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await _serve_request(app, reader, writer, log):
                pass
        writer.close()

    return await asyncio.start_server(serve_connection, sock=listener)


async def _begin_lifespan(app: App) -> None:
    """Send the application its start-up event, as uvicorn does; middleware has to forward it."""
    complete = asyncio.Event()

    async def receive() -> Message:
        if complete.is_set():
            await asyncio.Event().wait()
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        if message["type"] != "lifespan.startup.complete":
            raise RuntimeError(f"application did not start: {message}")
        complete.set()

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)


async def _serve_request(app: App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: LogWriter) -> bool:
    """Answer one request; return whether the connection stays open."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return False
    method, target, _ = head[0].split(" ", 2)
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:-2])]
    fields = dict(headers)
    body = await reader.readexactly(int(fields.get("content-length", "0")))
    path, _, query = target.partition("?")
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": writer.get_extra_info("peername")[:2],
        "server": writer.get_extra_info("sockname")[:2],
    }
    answer = _Answer(writer, log, f'"{method} {target} HTTP/1.1"', scope["client"])
    await app(scope, _one_body(body), answer.send)
    await answer.end()
    return fields.get("connection", "").lower() != "close"


def _one_body(body: bytes) -> Receive:
    bodies = [body]

    async def receive() -> Message:
        if not bodies:
            await asyncio.Event().wait()  # a disconnect is not detected here: the next write will fail
        return {"type": "http.request", "body": bodies.pop(), "more_body": False}

    return receive


class _Answer:
    """Sends the messages of an application to the client."""

    def __init__(self, writer: asyncio.StreamWriter, log: LogWriter, request: str, client: tuple[str, int]) -> None:
        self._writer, self._log, self._request, self._client = writer, log, request, client
        self._is_chunked = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begin(message["status"], list(message.get("headers", [])))
        else:
            body = message.get("body", b"")
            if self._is_chunked and body:
                body = b"%x\r\n%s\r\n" % (len(body), body)
            self._writer.write(body)
        await self._writer.drain()

    async def end(self) -> None:
        if self._is_chunked:
            self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._is_chunked = not any(name.lower() == b"content-length" for name, _ in headers)
        if self._is_chunked:
            headers.append((b"transfer-encoding", b"chunked"))
        headers.append((b"server", b"uvicorn"))
        phrase = PHRASES.get(status, "")
        lines = b"".join(b"%s: %s\r\n" % (name, value) for name, value in headers)
        self._writer.write(f"HTTP/1.1 {status} {phrase}\r\n".encode() + lines + b"\r\n")
        host, port = self._client
        path = self._request.split(" ")[1].partition("?")[0]
        self._log.access(path, f"{host}:{port} - {self._request} {status} {phrase}")

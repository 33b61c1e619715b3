"""A real HTTP server on a Unix socket that replays recorded answers of a model server, byte for byte."""

import asyncio
import json
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from pi_cli.models import plain_http

STREAMS = Path(__file__).parent / "streams"


@dataclass(frozen=True)
class Reply:
    """One answer, sent in pieces of `piece` bytes. Then `ending`: `done`, `cut` the connection, or `hang`."""

    body: bytes
    status: int = 200
    piece: int = 1 << 20
    ending: str = "done"


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class ModelServer:
    socket: Path
    replies: list[Reply]
    requests: list[Request] = field(default_factory=list)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)

    def transport(self) -> httpx2.AsyncBaseTransport:
        return plain_http.over(self.socket)

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while request := await read_request(reader):
                self.requests.append(request)
                reply = self.replies.pop(0)
                await self.send(reply, writer)
                if reply.ending == "hang":
                    await reader.read()
                    self.was_left.set()
                if reply.ending != "done":
                    break
        except ConnectionError:
            self.was_left.set()
        finally:
            writer.close()

    async def send(self, reply: Reply, writer: StreamWriter) -> None:
        kind = "text/event-stream" if reply.body.startswith(b"data:") else "application/json"
        head = f"HTTP/1.1 {reply.status} Status\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head.encode())
        for start in range(0, len(reply.body), reply.piece):
            piece = reply.body[start : start + reply.piece]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        if reply.ending == "done":
            writer.write(b"0\r\n\r\n")
        await writer.drain()


async def read_request(reader: StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(first.split()[1], headers, json.loads(body) if body else None)


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncIterator[ModelServer]:
    with tempfile.TemporaryDirectory() as folder:  # the paths of pytest's own are too long for a socket
        model = ModelServer(Path(folder) / "model.sock", list(replies))
        async with await asyncio.start_unix_server(model.serve, model.socket):
            yield model


def recorded(name: str, *, piece: int = 1 << 20) -> Reply:
    return Reply((STREAMS / name).read_bytes(), piece=piece)


def refusal(status: int, message: str) -> Reply:
    return Reply(json.dumps({"error": {"message": message, "code": status}}).encode(), status=status)


def streamed(*deltas: dict[str, Any], finish: str | None = "stop", usage: tuple[int, int] | None = None) -> Reply:
    """Return a stream in vLLM's format, from the deltas of its chunks."""
    chunks = [chunk({"index": 0, "delta": delta, "finish_reason": None}) for delta in deltas]
    if finish:
        chunks.append(chunk({"index": 0, "delta": {}, "finish_reason": finish}))
    if usage:
        chunks.append({**chunk(), "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
    lines = [f"data: {json.dumps(data)}\n\n" for data in chunks]
    return Reply("".join([*lines, "data: [DONE]\n\n"]).encode())


def chunk(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "qwen", "choices": choices}


def called(*calls: tuple[str, Any]) -> Reply:
    """Return an answer with tool calls only; arguments that are not strings are written as JSON."""
    return streamed(
        *(
            {"tool_calls": [{"index": number, "id": f"id-{number}", "type": "function", "function": {
                "name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
            }}]}
            for number, (name, arguments) in enumerate(calls)
        ),
        finish="tool_calls",
    )  # fmt: skip

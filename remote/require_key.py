"""Require an API key for a model: an ASGI middleware for `vllm serve --middleware require_key.RequireKey`.

vLLM's own check covers only some prefixes; `/invocations` and other routes generate text without a key. This one covers
every route except `/health`, including websockets, and CORS preflights unless browsers were asked for. The key is the
whole value of `VLLM_API_KEY`, as in vLLM itself: a comma does not separate keys. Without a key, every request is
refused. `PI_OTHER_API_KEYS` are more keys, separated by spaces. vLLM does not know them, so the middleware replaces
them by vLLM's own key.

Before a client sends a key, it can ask `/.well-known/pi-model?nonce=HEX` whether this is its model. The answer proves
it, for each valid key: HMAC-SHA256 of `NONCE PORT` with a proof key, which is the HMAC-SHA256 of `pi proof UID` with
the API key; UID is that of the launch. Whoever does not know UID learns nothing about a key from that, and an answer
for another port is not a proof.

When a client uses the model, the middleware sets the time of the model's record (`~/.pi/models/UID.json`), at most once
a minute: by that, pi sees for how long no client did. Reading requests, such as pi's own for `/metrics`, do not count.

With a key, `/.well-known/pi-model?look` reports all that a look at a model needs: a line of JSON with `health`, the
status of `/health`, and `silent`, for how many seconds no request was answered although some wait, or null if none
waits (the engine's own counts stand still with the engine); then the metrics. `?requests` reports `silent` only.
`?routes` reports the paths that the server serves, by which pi knows what the model is for: /openapi.json takes a vLLM
half a second to a second when it is first asked for.

A browser asks before it sends a key (a CORS preflight). That request passes only if the model was started for browsers
(`--allowed-origins`, in `PI_ALLOWED_ORIGINS`): vLLM answers it, and nothing else behind this check sees it.

A connection that has not sent a key within half a minute is closed, also one that never sends a whole request, and of
those without a key only the latest 256 stay: others cannot use up the server's connections (uvicorn has no such limit).

Runs in vLLM's process on the pod: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import sys
import time
from typing import Any, Awaitable, Callable, Dict, MutableMapping

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_REFUSAL = json.dumps(
    {
        "error": {
            "message": "Incorrect or missing API key: send it as `Authorization: Bearer KEY`.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_REFUSAL)).encode()),
    (b"www-authenticate", b"Bearer"),
]
PROOF_ROUTE = "/.well-known/pi-model"
NOTE_INTERVAL = 60.0  # seconds
METRICS_TIMEOUT = 1.0  # seconds; pi waits for the whole answer for two
NONCE = re.compile(rb"nonce=([0-9a-f]{32,128})")


class Strangers:
    """The connections that have not sent a key yet."""

    MOST = 256
    SECONDS = 30.0
    # uvicorn's classes of a connection, of which it chooses one.
    PROTOCOLS = (
        ("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol"),
        ("uvicorn.protocols.http.h11_impl", "H11Protocol"),
    )

    def __init__(self) -> None:
        self._timers: Dict[Any, asyncio.TimerHandle] = {}  # by transport, the oldest first
        self._open: Dict[Any, Any] = {}  # transports of all connections, by the address and port of the other end
        self._is_watching = False

    def watch(self) -> None:
        """Have each new connection of this process's server noticed. Another server than uvicorn is not watched."""
        if self._is_watching:
            return
        self._is_watching = True
        for module, name in self.PROTOCOLS:
            protocol = getattr(sys.modules.get(module), name, None)
            if protocol is not None:
                self._notice(protocol)

    def _notice(self, protocol: Any) -> None:
        made, lost = protocol.connection_made, protocol.connection_lost

        def connection_made(connection: Any, transport: Any) -> None:
            made(connection, transport)
            self.came(transport)

        def connection_lost(connection: Any, error: Any) -> None:
            self.lost(connection.transport)
            lost(connection, error)

        protocol.connection_made, protocol.connection_lost = connection_made, connection_lost

    def came(self, transport: Any) -> None:
        """Begin to count a connection; close the oldest one if there are too many."""
        if not self._is_watching:
            return
        self._open[_other_end(transport)] = transport
        while len(self._timers) >= self.MOST:
            self._close(next(iter(self._timers)))
        loop = asyncio.get_running_loop()
        self._timers[transport] = loop.call_later(self.SECONDS, self._close, transport)

    def left(self, transport: Any) -> None:
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def lost(self, transport: Any) -> None:
        self.left(transport)
        self._open.pop(_other_end(transport), None)

    def known(self, scope: Message, receive: Receive) -> None:
        """Let the connection of a request with a valid key stay."""
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        if transport is None:  # other middleware stands between: uvicorn's `client` is the other end of the connection
            transport = self._open.get(tuple(scope.get("client") or ()))
            if transport is None:
                self._stop()  # better no limit than to close the connection of a user
        self.left(transport)

    def _stop(self) -> None:
        self._is_watching = False
        for transport in list(self._timers):
            self.left(transport)

    def _close(self, transport: Any) -> None:
        self.left(transport)
        transport.abort()


def _other_end(transport: Any) -> Any:
    return tuple((transport.get_extra_info("peername") or ())[:2])


class RequireKey:
    """Pass on requests with a valid key, and answer all others with 401."""

    def __init__(self, app: App) -> None:
        key = _setting("VLLM_API_KEY")
        self._app = app
        keys = [key, *_setting("PI_OTHER_API_KEYS").split()] if key else []
        self._expected = [_digest(valid) for valid in keys]
        uid = _setting("PI_MODEL_UID")
        self._proof_keys = [_hmac(valid, b"pi proof " + uid) for valid in keys] if uid else []
        folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # ~/.pi
        self._record = os.path.join(folder, "models", os.fsdecode(uid) + ".json")
        self._noted_at = -NOTE_INTERVAL
        self._waiting: Dict[int, float] = {}  # since when; by number
        self._count = 0
        self._answered_at = 0.0
        self._origins = _setting("PI_ALLOWED_ORIGINS").split()
        self._strangers = Strangers()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self._strangers.watch()
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _path(scope) == "/health"):
            await self._app(scope, receive, send)
            return
        is_valid = any(self._is_valid(key) for key in _presented(scope))
        if is_valid:
            self._strangers.known(scope, receive)
        if scope["type"] == "http" and _path(scope) == PROOF_ROUTE:
            if is_valid and await self._tell(scope, receive, send):
                return
            if self._proof_keys:
                await self._prove(scope, send)
                return
        if is_valid:
            self._note_use(scope)
            await self._pass_on(_with_vllm_key(scope), receive, send)
        elif self._origins and _is_preflight(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
        else:
            await _refuse(send, "http.response", self._origin_header(scope))

    async def _pass_on(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass on a request, and note until when one waits for its answer."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        is_refused = False

        async def noted(message: Message) -> None:
            nonlocal is_refused
            is_refused = is_refused or message.get("status", 200) >= 400
            if message.get("body") and not is_refused:
                self._answered_at = time.monotonic()
            await send(message)

        self._count += 1
        number = self._count
        self._waiting[number] = time.monotonic()
        try:
            await self._app(scope, receive, noted)
        finally:
            del self._waiting[number]

    async def _tell(self, scope: Message, receive: Receive, send: Send) -> bool:
        """Answer a question of pi about the model; return whether it was one."""
        question = scope.get("query_string")
        if question == b"look":
            await self._look(scope, receive, send)
        elif question == b"requests":
            await _answer(send, {"silent": self._silent()})
        elif question == b"routes":
            await _answer(send, {"routes": _routes(scope)})
        else:
            return False
        return True

    async def _look(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer with the model's health, and with its metrics if they come soon."""
        health, _ = await self._own(scope, receive, "/health")
        metrics = b""
        with contextlib.suppress(asyncio.TimeoutError):
            status, text = await asyncio.wait_for(self._own(scope, receive, "/metrics"), METRICS_TIMEOUT)
            metrics = text if status == 200 else b""
        head = json.dumps({"health": health, "silent": self._silent()}).encode()
        await _answer_with(send, b"text/plain", head + b"\n" + metrics)

    async def _own(self, scope: Message, receive: Receive, route: str) -> tuple[int, bytes]:
        """Return the status and body with which the application answers another route."""
        path = str(scope["path"])[: -len(PROOF_ROUTE)] + route
        request = {**_with_vllm_key(scope), "path": path, "raw_path": path.encode(), "query_string": b""}
        status, parts, is_asked = 500, [], False

        async def asked() -> Message:
            nonlocal is_asked
            if is_asked:
                return await receive()
            is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def answered(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await self._app(request, asked, answered)
        return status, b"".join(parts)

    def _silent(self) -> float | None:
        """Return for how many seconds no request was answered although some wait; None if none waits."""
        since = min(self._waiting.values(), default=None)
        return None if since is None else time.monotonic() - max(since, self._answered_at)

    def _origin_header(self, scope: Message) -> list[tuple[bytes, bytes]]:
        """Return the header with which a browser shows a refusal to a page of an allowed origin."""
        origin = dict(scope["headers"]).get(b"origin")
        if origin is None or not ({b"*", origin} & set(self._origins)):
            return []
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]

    def _note_use(self, scope: Message) -> None:
        """Set the time of the record in a thread: on a network file system that hangs, requests do not wait for it."""
        is_use = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if is_use and time.monotonic() - self._noted_at >= NOTE_INTERVAL:
            self._noted_at = time.monotonic()
            asyncio.get_running_loop().run_in_executor(None, _set_time, self._record)

    async def _prove(self, scope: Message, send: Send) -> None:
        nonce, server = NONCE.fullmatch(scope.get("query_string", b"")), scope.get("server")
        if not (nonce and server):
            await _refuse(send, "http.response")
            return
        message = nonce.group(1) + b" %d" % server[1]
        await _answer(send, {"proofs": [_hmac(key, message).hex() for key in self._proof_keys]})

    def _is_valid(self, key: bytes) -> bool:
        """Compare with all of every valid key, so that the duration reveals nothing."""
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, expected) for expected in self._expected]
        return True in matches


def _set_time(path: str) -> None:
    with contextlib.suppress(OSError):  # without a record, or on a read-only disk
        os.utime(path, (time.time(), time.time()))  # this machine's clock, not that of a file server


def _setting(name: str) -> bytes:
    return os.fsencode(os.environ.get(name, ""))


def _digest(key: bytes) -> bytes:
    """Hash a key, so that comparing takes the same time whatever its length."""
    return hashlib.sha256(key).digest()


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _path(scope: Message) -> str:
    """Return the path without the prefix `--root-path`, which some servers include."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if path.startswith(root) else path


def _routes(scope: Message) -> list[str]:
    """Return the paths that the application serves; none if it is not one of Starlette's, which puts itself there."""
    routes = getattr(scope.get("app"), "routes", ())
    return sorted({route.path for route in routes if isinstance(getattr(route, "path", None), str)})


def _presented(scope: Message) -> list[bytes]:
    """Return the keys in a request: OpenAI's clients send a bearer token, Anthropic's send `x-api-key`."""
    keys = []
    for name, value in scope["headers"]:
        scheme, _, token = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            keys.append(token.strip())
        elif name == b"x-api-key":
            keys.append(value)
    return keys


def _with_vllm_key(scope: Message) -> Message:
    """Return the request with vLLM's own key as a bearer token, which vLLM's own check accepts afterwards."""
    others = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"x-api-key")]
    return {**scope, "headers": [*others, (b"authorization", b"Bearer " + _setting("VLLM_API_KEY"))]}


def _is_preflight(scope: Message) -> bool:
    """Return whether a browser asks if it may send a request."""
    names = (
        {name for name, _ in scope["headers"]} if scope["type"] == "http" and scope["method"] == "OPTIONS" else set()
    )
    return {b"origin", b"access-control-request-method"} <= names


async def _answer(send: Send, content: dict[str, Any]) -> None:
    await _answer_with(send, b"application/json", json.dumps(content).encode())


async def _answer_with(send: Send, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, kind: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await send({"type": kind + ".start", "status": 401, "headers": [*_HEADERS, *(headers or [])]})
    await send({"type": kind + ".body", "body": _REFUSAL})


async def _refuse_websocket(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse before the handshake: with 401 if the server supports that, else by closing, which clients see as 403."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await _refuse(send, "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": 1008})

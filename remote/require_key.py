"""Require an API key for a model: an ASGI middleware for `vllm serve --middleware require_key.RequireKey`.

vLLM's own check covers only some prefixes; `/invocations` and other routes generate text without a key. This one covers
every route except `/health`, including CORS preflights and websockets. The key is the whole value of `VLLM_API_KEY`, as
in vLLM itself: a comma does not separate keys. Without a key, every request is refused. `PI_OTHER_API_KEYS` are more
keys, separated by spaces. vLLM does not know them, so the middleware replaces them by vLLM's own key.

Before a client sends a key, it can ask `/.well-known/pi-model?nonce=HEX` whether this is its model. The answer proves
it, for each valid key: HMAC-SHA256 of `NONCE PORT` with a proof key, which is the HMAC-SHA256 of `pi proof UID` with
the API key; UID is that of the launch. Whoever does not know UID learns nothing about a key from that, and an answer
for another port is not a proof.

When a client uses the model, the middleware sets the time of the model's record (`~/.pi/models/UID.json`), at most once
a minute: by that, pi sees for how long no client did. Reading requests, such as pi's own for `/metrics`, do not count.

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
import time
from typing import Any, Awaitable, Callable, MutableMapping

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
NONCE = re.compile(rb"nonce=([0-9a-f]{32,128})")


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

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _path(scope) == "/health"):
            await self._app(scope, receive, send)
            return
        if self._proof_keys and scope["type"] == "http" and _path(scope) == PROOF_ROUTE:
            await self._prove(scope, send)
            return
        if any(self._is_valid(key) for key in _presented(scope)):
            self._note_use(scope)
            await self._app(_with_vllm_key(scope), receive, send)
        elif scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
        else:
            await _refuse(send, "http.response")

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
        body = json.dumps({"proofs": [_hmac(key, message).hex() for key in self._proof_keys]}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

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


async def _refuse(send: Send, kind: str) -> None:
    await send({"type": kind + ".start", "status": 401, "headers": _HEADERS})
    await send({"type": kind + ".body", "body": _REFUSAL})


async def _refuse_websocket(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse before the handshake: with 401 if the server supports that, else by closing, which clients see as 403."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await _refuse(send, "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": 1008})

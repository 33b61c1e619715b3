"""Let nobody use a model without its key: an ASGI middleware for `vllm serve --middleware require_key.RequireKey`.

vLLM's own check guards only some prefixes; `/invocations` and others generate text without a key. This one guards every
route but `/health`, CORS preflights and websockets included. The key is all of `VLLM_API_KEY`, as vLLM itself reads it:
one key, in which a comma is a comma. Without one, everything is refused. `PI_OTHER_API_KEYS` are more keys, between
blanks: vLLM, which does not know them, is shown its own in their place.

Runs in vLLM's process on the pod: standard library only, Python 3.8 and later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
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


class RequireKey:
    """Pass on what carries the key, answer everything else with 401."""

    def __init__(self, app: App) -> None:
        key = _setting("VLLM_API_KEY")
        self._app = app
        self._expected = [_digest(each) for each in [key, *_setting("PI_OTHER_API_KEYS").split()]] if key else []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _path(scope) == "/health"):
            await self._app(scope, receive, send)
            return
        if any(self._knows(key) for key in _presented(scope)):
            await self._app(_as_vllm_wants_it(scope), receive, send)
        elif scope["type"] == "websocket":
            await _refuse_websocket(scope, receive, send)
        else:
            await _refuse(send, "http.response")

    def _knows(self, key: bytes) -> bool:
        """Compare with every key there is, and all of it: how long that takes tells nothing."""
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, expected) for expected in self._expected]
        return True in matches


def _setting(name: str) -> bytes:
    return os.fsencode(os.environ.get(name, ""))


def _digest(key: bytes) -> bytes:
    """Hash a key, so that comparing takes the same time whatever its length."""
    return hashlib.sha256(key).digest()


def _path(scope: Message) -> str:
    """Return the path below `--root-path`, which servers put in front of it."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if path.startswith(root) else path


def _presented(scope: Message) -> list[bytes]:
    """Return the keys a request shows: OpenAI's clients send a bearer token, Anthropic's `x-api-key`."""
    keys = []
    for name, value in scope["headers"]:
        scheme, _, token = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            keys.append(token.strip())
        elif name == b"x-api-key":
            keys.append(value)
    return keys


def _as_vllm_wants_it(scope: Message) -> Message:
    """Show the key, and in the way, that vLLM's own check accepts, which runs after ours."""
    others = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"x-api-key")]
    return {**scope, "headers": [*others, (b"authorization", b"Bearer " + _setting("VLLM_API_KEY"))]}


async def _refuse(send: Send, kind: str) -> None:
    await send({"type": kind + ".start", "status": 401, "headers": _HEADERS})
    await send({"type": kind + ".body", "body": _REFUSAL})


async def _refuse_websocket(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse before accepting: with 401 where the server can say so, else by closing, which clients see as 403."""
    await receive()
    if "websocket.http.response" in scope.get("extensions", {}):
        await _refuse(send, "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": 1008})

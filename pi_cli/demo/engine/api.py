"""The routes of the simulated server: which of them need the key, and their answers."""

import asyncio
import contextlib
import hmac
import itertools
import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pi_cli.demo.engine import kinds, known, messages, responses, script
from pi_cli.demo.engine.chat import FINGERPRINT, Completion, Emit, pieces
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.engine.metrics import Work
from pi_cli.demo.engine.web import App, Message, Receive, Send

Json = dict[str, Any]

GUARDED = ("/v1", "/v2", "/inference", "/cohere")
NO_TOOL_PARSER = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'


class KeyGuard:
    """vLLM's own key check. It checks path prefixes only, so `/invocations` and other routes need no key."""

    def __init__(self, app: App, keys: list[str]) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        is_guarded = scope["type"] == "http" and scope["method"] != "OPTIONS" and scope["path"].startswith(GUARDED)
        if is_guarded and not self._knows(dict(scope["headers"]).get(b"authorization", b"")):
            await _reply(send, 401, {"error": "Unauthorized"})
        else:
            await self._app(scope, receive, send)

    def _knows(self, header: bytes) -> bool:
        scheme, _, token = header.partition(b" ")
        return scheme.lower() == b"bearer" and any(hmac.compare_digest(token, key.encode()) for key in self._keys)


class HttpError(Exception):
    """A request that is answered with an error in OpenAI's format."""

    def __init__(self, code: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Api:
    """The ASGI application. The server sets `engine_is_alive` to False when the engine dies.

    While `is_stopped`, it takes requests, and the engine answers none, as a vLLM whose engine core hangs.
    """

    def __init__(self, settings: Settings, *, version: str, context: int, on_work: Callable[[int], None]) -> None:
        self._settings, self._version, self._context = settings, version, context
        self._since = int(time.time())
        self._work = Work(on_work)
        self.engine_is_alive = True
        self.is_stopped: Callable[[], bool] = lambda: False
        self._routes = {
            ("GET", "/health"): self._health,
            ("GET", "/ping"): self._health,
            ("POST", "/ping"): self._health,
            ("GET", "/version"): self._get_version,
            ("GET", "/load"): self._load,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/v1/models"): self._models,
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/responses"): self._respond,
            ("POST", "/v1/messages"): self._answer_messages,
            ("POST", "/v1/completions"): self._complete,
            ("POST", "/invocations"): self._invoke,
            ("POST", "/tokenize"): self._tokenize,
        }
        self._others = kinds.answers(settings)
        if self._others:
            for path in kinds.ROUTES["generation"]:
                del self._routes["POST", path]
            self._routes |= {("POST", path): partial(self._answer, path) for path in self._others}
        if not settings.has("disable-fastapi-docs"):
            self._routes["GET", "/openapi.json"] = self._describe

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            return
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            is_known = any(path == scope["path"] for _, path in self._routes)
            detail = (405, "Method Not Allowed") if is_known else (404, "Not Found")
            await _reply(send, detail[0], {"detail": detail[1]})
            return
        headers, body = dict(scope["headers"]), (await receive()).get("body", b"")
        is_form = headers.get(b"content-type", b"").startswith(b"multipart/form-data")
        try:
            await route(_fields(body) if is_form else _read_json(body), send)
        except HttpError as error:
            await _reply(send, error.code, error.body)

    async def _describe(self, _: Json, send: Send) -> None:
        paths: dict[str, Json] = {}
        for method, path in self._routes:
            paths.setdefault(path, {})[method.lower()] = {}
        await _reply(send, 200, {"openapi": "3.1.0", "info": {"title": "FastAPI"}, "paths": paths})

    async def _answer(self, path: str, request: Json, send: Send) -> None:
        """Answer a request to a model that does not generate text."""
        self._check(request)
        await self._engine()
        await _reply(send, 200, self._others[path](request))

    async def _health(self, _: Json, send: Send) -> None:
        if self._settings.simulated("hang-health") is not None:
            await asyncio.Event().wait()
        await _reply(send, 200 if self.engine_is_alive else 503, None)

    async def _get_version(self, _: Json, send: Send) -> None:
        await _reply(send, 200, {"version": self._version})

    async def _load(self, _: Json, send: Send) -> None:
        await _reply(send, 200, {"server_load": len(self._work.active)})

    async def _metrics(self, _: Json, send: Send) -> None:
        await _reply(send, 200, self._work.metrics(self._settings.names[0]), "text/plain; version=0.0.4; charset=utf-8")

    async def _models(self, _: Json, send: Send) -> None:
        permission = {"id": f"modelperm-{uuid.uuid4().hex[:16]}", "object": "model_permission", "created": self._since}
        permission |= {f"allow_{action}": False for action in ("create_engine", "search_indices", "fine_tuning")}
        permission |= {f"allow_{action}": True for action in ("sampling", "logprobs", "view")}
        permission |= {"organization": "*", "group": None, "is_blocking": False}
        entry = {
            "object": "model",
            "created": self._since,
            "owned_by": "vllm (simulated)",
            "root": self._settings.model,
        }
        entry |= {"parent": None, "max_model_len": self._context, "permission": [permission]}
        await _reply(send, 200, {"object": "list", "data": [{"id": name, **entry} for name in self._settings.names]})

    async def _invoke(self, request: Json, send: Send) -> None:
        """Generate text without checking the key, as the real route does."""
        await (self._chat if "messages" in request else self._complete)(request, send)

    async def _tokenize(self, request: Json, send: Send) -> None:
        tokens = script.tokenize(str(request.get("prompt", "")))
        answer = {"count": len(tokens), "max_model_len": self._context, "tokens": list(range(len(tokens)))}
        await _reply(send, 200, answer)

    async def _engine(self) -> None:
        """Wait for the engine."""
        while self.is_stopped():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)

    async def _complete(self, request: Json, send: Send) -> None:
        self._check(request)
        await self._engine()
        turn = script.next_turn([{"role": "user", "content": str(request.get("prompt", ""))}])
        limit = request.get("max_tokens") or 16
        tokens = script.tokenize(turn.answer or turn.thinking)[:limit]
        if request.get("ignore_eos"):
            tokens = list(itertools.islice(itertools.cycle(tokens), limit))
        choice = {"index": 0, "text": "".join(tokens), "logprobs": None, "finish_reason": "stop", "stop_reason": None}
        answer = {"id": f"cmpl-{uuid.uuid4().hex[:16]}", "object": "text_completion", "created": int(time.time())}
        usage = {"prompt_tokens": 1, "total_tokens": 1 + len(tokens), "completion_tokens": len(tokens)}
        answer |= {"model": request.get("model") or self._settings.names[0], "choices": [choice], "usage": usage}
        if request.get("stream"):
            await self._stream(partial(self._stream_text, answer, tokens), send)
        else:
            await _reply(send, 200, answer | {"system_fingerprint": FINGERPRINT})

    async def _stream_text(self, answer: Json, tokens: list[str], emit: Emit) -> None:
        for token in tokens:
            await asyncio.sleep(1 / self._rate)
            choice = {"index": 0, "text": token, "logprobs": None, "finish_reason": None}
            await emit(f"data: {json.dumps(answer | {'choices': [choice], 'usage': None})}\n\n".encode())
        await emit(f"data: {json.dumps(answer | {'choices': []})}\n\ndata: [DONE]\n\n".encode())

    async def _chat(self, request: Json, send: Send) -> None:
        self._check(request)
        completion = self._completion(request)
        with self._work.counted(completion):
            if request.get("stream"):
                await self._stream(completion.stream, send)
            else:
                await _reply(send, 200, await completion.whole())

    async def _respond(self, request: Json, send: Send) -> None:
        self._check(request)
        as_chat = request | responses.as_chat(request)
        completion = self._completion(as_chat)
        response = responses.Responses({"model": self._settings.names[0], **request}, completion)
        with self._work.counted(completion):
            if request.get("stream"):
                await self._stream(response.stream, send)
            else:
                await _reply(send, 200, await response.whole())

    async def _answer_messages(self, request: Json, send: Send) -> None:
        self._check(request)
        completion = self._completion(messages.as_chat(request))
        answer = messages.Messages(request.get("model") or self._settings.names[0], completion)
        with self._work.counted(completion):
            if request.get("stream"):
                await self._stream(answer.stream, send)
            else:
                await _reply(send, 200, await answer.whole())

    def _completion(self, request: Json) -> Completion:
        chat, prompt_tokens = self._check_chat(request)
        thinks = (request.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        thinks = thinks and request.get("reasoning_effort") != "none"
        turn = script.next_turn(chat)
        if schema := (request.get("response_format") or {}).get("json_schema"):
            turn = script.follow_schema(turn, schema["schema"])
        deltas = pieces(  # gpt-oss thinks in a channel of its own, which vLLM reads without a parser
            turn,
            thinks=thinks and known.thinks(self._settings),
            parses_thinking=self._settings.has("reasoning-parser") or known.is_harmony(self._settings),
            parses_calls=bool(request.get("tools")) and request.get("tool_choice") != "none",
        )
        whole = {"model": self._settings.names[0], **request}
        return Completion(whole, deltas, prompt_tokens=prompt_tokens, rate=self._rate, engine=self._engine)

    @property
    def _rate(self) -> float:
        """Return the tokens per second of each answer."""
        return float(self._settings.simulated("rate") or 100)

    async def _stream(self, stream: Callable[[Emit], Awaitable[None]], send: Send) -> None:
        left = int(self._settings.simulated("cut-stream") or 0)
        await send(_head(200, "text/event-stream; charset=utf-8"))

        async def emit(event: bytes) -> None:
            nonlocal left
            await send({"type": "http.response.body", "body": event, "more_body": True})
            left -= 1
            if left == 0:
                raise ConnectionAbortedError("cut by --simulate cut-stream")

        await stream(emit)
        await send({"type": "http.response.body", "body": b""})

    def _check(self, request: Json) -> None:
        if not self.engine_is_alive:
            text = "EngineCore encountered an issue. See stack trace (above) for the root cause."
            raise HttpError(500, "InternalServerError", text)
        names = self._settings.names
        if request.get("model") not in (None, *names):
            text = f"The model `{request['model']}` does not exist. Valid aliases: {', '.join(names)}."
            raise HttpError(404, "NotFoundError", text, "model")

    def _check_chat(self, request: Json) -> tuple[list[Json], int]:
        messages = request.get("messages")
        if not isinstance(messages, list):
            detail = {"type": "list_type", "loc": "body.messages", "msg": "Input should be a valid list"}
            text = f"1 validation error:\n  {detail | {'input': messages}}"
            raise HttpError(400, "Bad Request", text, "body.messages")
        has_parser = self._settings.has("enable-auto-tool-choice") and self._settings.has("tool-call-parser")
        if request.get("tools") and request.get("tool_choice", "auto") == "auto" and not has_parser:
            raise HttpError(400, "BadRequestError", NO_TOOL_PARSER)
        if not known.sees(self._settings) and any(map(_has_image, messages)):
            raise HttpError(400, "BadRequestError", "At most 0 image(s) may be provided in one prompt.")
        tokens = sum(len(script.tokenize(script.text_of(message))) + 4 for message in messages)
        if tokens > self._context:
            text = (
                f"This model's maximum context length is {self._context} tokens. However, your request has {tokens} "
                "input tokens. Please reduce the length of the input messages."
            )
            raise HttpError(400, "BadRequestError", text, "input_tokens")
        return messages, tokens


def _has_image(message: Json) -> bool:
    content = message.get("content")
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "image_url" in kinds or "input_image" in kinds


def _fields(body: bytes) -> Json:
    """Return the texts of a form; its files are not looked at."""
    found = re.findall(rb'name="([a-z_]+)"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n', body)
    return {name.decode(): value.decode() for name, value in found}


def _read_json(body: bytes) -> Json:
    with contextlib.suppress(ValueError):
        value = json.loads(body or b"{}")
        if isinstance(value, dict):
            return value
    raise HttpError(400, "Bad Request", "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body'}", "body")


async def _reply(send: Send, status: int, content: Json | str | None, kind: str = "application/json") -> None:
    if not isinstance(content, str):
        content = "" if content is None else json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    body = content.encode()
    start = _head(status, kind)
    start["headers"].append((b"content-length", b"%d" % len(body)))
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _head(status: int, kind: str) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]}

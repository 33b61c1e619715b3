"""Minimal chat-completions client without a library, so that `pi check` sees the raw response of the server.

`chat.completions` reads the same API for `pi prompt`. The code is separate on purpose: that one skips malformed data.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
MAX_QUOTE = 160  # characters of a response that are quoted in an error


class Unanswered(Exception):
    """The server did not answer a question; the text says why."""


@dataclass(slots=True)
class ToolCall:
    """A tool call of the model; `arguments` should be JSON."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def values(self) -> Json | None:
        """Return the arguments as an object, None if they are not a JSON object."""
        try:
            values = json.loads(self.arguments)
        except (ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None


@dataclass(slots=True)
class Answer:
    """The answer of a model; `first` is the number of seconds until the first chunk of a stream with content."""

    text: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    finish: str | None = None
    has_usage: bool = False
    first: float | None = None


async def ask(client: httpx2.AsyncClient, **request: Any) -> Answer:
    """Ask for an answer in one piece."""
    response = await client.post(CHAT, json=request)
    require_ok(response)
    try:
        body = response.json()
        choice = body["choices"][0]
        message = choice["message"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise Unanswered(f"the response is not a chat completion: {_brief(response.text)}") from error
    answer = Answer(finish=choice.get("finish_reason"), has_usage=bool(body.get("usage")))
    _add(answer, message, {})
    return answer


async def stream(client: httpx2.AsyncClient, **request: Any) -> Answer:
    """Ask for a streamed answer, and assemble it."""
    began = time.monotonic()
    answer, drafts = Answer(), dict[int, ToolCall]()
    streamed = request | {"stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", CHAT, json=streamed) as response:
        if response.status_code != 200:
            await response.aread()
        require_ok(response)
        is_ended = False
        async for line in response.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            is_ended = is_ended or data == "[DONE]"
            if data != "[DONE]":
                _add_chunk(answer, _chunk(data), drafts, time.monotonic() - began)
    if not is_ended:
        raise Unanswered("the stream ended early")
    return answer


def _add_chunk(answer: Answer, chunk: Json, drafts: dict[int, ToolCall], seconds: float) -> None:
    if "error" in chunk:
        raise Unanswered(f"the stream ended early: {_brief(json.dumps(chunk['error']))}")
    answer.has_usage = answer.has_usage or bool(chunk.get("usage"))
    for choice in chunk.get("choices") or ():
        answer.finish = choice.get("finish_reason") or answer.finish
        if _add(answer, choice.get("delta") or {}, drafts) and answer.first is None:
            answer.first = seconds


def _add(answer: Answer, message: Mapping[str, Any], drafts: dict[int, ToolCall]) -> bool:
    """Add a message, or a delta of one, to an answer; return whether it has content."""
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    text, calls = message.get("content") or "", message.get("tool_calls") or ()
    answer.reasoning += reasoning
    answer.text += text
    for number, delta in enumerate(calls):
        call = drafts.get(delta.get("index", number))
        if call is None:
            call = drafts[delta.get("index", number)] = ToolCall()
            answer.calls.append(call)
        function = delta.get("function") or {}
        call.id = call.id or delta.get("id") or ""
        call.name = call.name or function.get("name") or ""
        call.arguments += function.get("arguments") or ""
    return bool(reasoning or text or calls)


def _chunk(data: str) -> Json:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unanswered(f"the stream contains text that is not JSON: {_brief(data)}") from error
    return chunk if isinstance(chunk, dict) else {}


def require_ok(response: httpx2.Response) -> None:
    """Raise `Unanswered` with the server's message if a request failed."""
    if response.status_code == 200:
        return
    try:
        error = response.json()
        error = error.get("error", error)
        message = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError, RecursionError):
        message = response.text
    raise Unanswered(f"HTTP {response.status_code}: {_brief(str(message))}")


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTE else f"{line[:MAX_QUOTE]}…"

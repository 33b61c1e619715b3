"""Minimal chat-completions client without a library, so that `pi check` sees what the server really sends.

`chat.completions` reads the same API for `pi prompt`, on purpose with code of its own: it skips what is malformed.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

Json = dict[str, Any]

CHAT = "/v1/chat/completions"
MOST_SAID = 160  # characters of a server's own words


class Unanswered(Exception):
    """A question was not answered; the text says why."""


@dataclass(slots=True)
class Call:
    """A wish to use a tool; `arguments` are JSON, or should be."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    @property
    def values(self) -> Json | None:
        """The arguments as an object, None if they are none."""
        try:
            values = json.loads(self.arguments)
        except (ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None


@dataclass(slots=True)
class Answer:
    """What a model said; `first` is after how many seconds the first piece of a stream came."""

    text: str = ""
    thinking: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None
    has_usage: bool = False
    first: float | None = None


async def ask(client: httpx2.AsyncClient, **request: Any) -> Answer:
    """Ask for an answer in one piece."""
    response = await client.post(CHAT, json=request)
    _require_ok(response)
    try:
        body = response.json()
        choice = body["choices"][0]
        message = choice["message"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Unanswered(f"what it sent is no chat completion: {_brief(response.text)}") from error
    answer = Answer(finish=choice.get("finish_reason"), has_usage=bool(body.get("usage")))
    _hear(answer, message, {})
    return answer


async def stream(client: httpx2.AsyncClient, **request: Any) -> Answer:
    """Ask for an answer as a stream of pieces, and put them together."""
    began = time.monotonic()
    answer, drafts = Answer(), dict[int, Call]()
    asked = request | {"stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", CHAT, json=asked) as response:
        if response.status_code != 200:
            await response.aread()
        _require_ok(response)
        is_ended = False
        async for line in response.aiter_lines():
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            is_ended = is_ended or data == "[DONE]"
            if data != "[DONE]":
                _take_in(answer, _chunk(data), drafts, time.monotonic() - began)
    if not is_ended:
        raise Unanswered("its stream broke off")
    return answer


def _take_in(answer: Answer, chunk: Json, drafts: dict[int, Call], seconds: float) -> None:
    if "error" in chunk:
        raise Unanswered(f"its stream broke off: {_brief(json.dumps(chunk['error']))}")
    answer.has_usage = answer.has_usage or bool(chunk.get("usage"))
    for choice in chunk.get("choices") or ():
        answer.finish = choice.get("finish_reason") or answer.finish
        if _hear(answer, choice.get("delta") or {}, drafts) and answer.first is None:
            answer.first = seconds


def _hear(answer: Answer, said: Mapping[str, Any], drafts: dict[int, Call]) -> bool:
    """Add a message, or a piece of one; tell whether it said anything."""
    thinking = said.get("reasoning") or said.get("reasoning_content") or ""
    text, calls = said.get("content") or "", said.get("tool_calls") or ()
    answer.thinking += thinking
    answer.text += text
    for number, piece in enumerate(calls):
        call = drafts.get(piece.get("index", number))
        if call is None:
            call = drafts[piece.get("index", number)] = Call()
            answer.calls.append(call)
        function = piece.get("function") or {}
        call.id = call.id or piece.get("id") or ""
        call.name = call.name or function.get("name") or ""
        call.arguments += function.get("arguments") or ""
    return bool(thinking or text or calls)


def _chunk(data: str) -> Json:
    try:
        chunk = json.loads(data)
    except ValueError as error:
        raise Unanswered(f"its stream holds what is no JSON: {_brief(data)}") from error
    return chunk if isinstance(chunk, dict) else {}


def _require_ok(response: httpx2.Response) -> None:
    if response.status_code == 200:
        return
    try:
        error = response.json()
        error = error.get("error", error)
        said = error.get("message", error) if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        said = response.text
    raise Unanswered(f"HTTP {response.status_code}: {_brief(str(said))}")


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_SAID else f"{line[:MOST_SAID]}…"

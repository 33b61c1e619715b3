"""An answer over `/v1/responses` in the format of vLLM 0.32: item after item, each as a series of events."""

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from pi_cli.demo.engine.chat import Completion, Emit

Json = dict[str, Any]
SendEvent = Callable[..., Awaitable[None]]


def messages(request: Json) -> list[Json]:
    """Return the conversation in the request as chat messages."""
    items = request.get("input") or ""
    chat = [{"role": "system", "content": request["instructions"]}] if request.get("instructions") else []
    if isinstance(items, str):
        return [*chat, {"role": "user", "content": items}]
    for item in items:
        if item.get("type") == "function_call_output":
            chat.append({"role": "tool", "content": item["output"]})
        else:
            chat.append({"role": item.get("role", "assistant"), "content": item.get("content")})
    return chat


def as_chat(request: Json) -> Json:
    """Return the request as one of `/v1/chat/completions`."""
    form = (request.get("text") or {}).get("format") or {}
    schema = {"response_format": {"type": "json_schema", "json_schema": form}} if "schema" in form else {}
    effort = (request.get("reasoning") or {}).get("effort")
    limit = {"max_tokens": request.get("max_output_tokens"), "reasoning_effort": effort}
    return {"messages": messages(request), **limit, **schema}


class Responses:
    """One answer while it is generated, from the pieces of a chat completion."""

    def __init__(self, request: Json, completion: Completion) -> None:
        self._request = request
        self._completion = completion
        self._id, self._created = f"resp_{_id()}", int(time.time())
        self._items: list[Json] = []
        self._count = 0

    async def stream(self, emit: Emit) -> None:
        async def send(kind: str, **fields: Any) -> None:
            event = {**fields, "sequence_number": self._count, "type": kind}
            self._count += 1
            await emit(f"event: {kind}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode())

        await send("response.created", response=self._whole("in_progress"))
        await send("response.in_progress", response=self._whole("in_progress"))
        await self._generate(send)
        await send("response.completed", response=self.finished())

    async def whole(self) -> Json:
        async def ignore(kind: str, **fields: Any) -> None:
            del kind, fields

        await self._generate(ignore)
        return self.finished()

    def finished(self) -> Json:
        is_cut = self._completion.finish_reason == "length"
        usage = self._completion.usage()
        return self._whole("incomplete" if is_cut else "completed") | {
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": self._items,
            "usage": {
                "input_tokens": usage["prompt_tokens"],
                "output_tokens": usage["completion_tokens"],
                "output_tokens_details": usage["completion_tokens_details"],
                "total_tokens": usage["total_tokens"],
            },
        }

    async def _generate(self, send: SendEvent) -> None:
        item: _ItemStream | None = None
        async for delta in self._completion.paced():
            for piece in _pieces(delta):
                if item is None or not item.continues_with(piece):
                    if item:
                        await item.end(send)
                    item = _ItemStream(len(self._items), piece)
                    self._items.append(item.data)
                    await item.begin(send)
                await item.add(send, piece["text"])
        if item:
            await item.end(send)

    def _whole(self, status: str) -> Json:
        about = {"id": self._id, "created_at": self._created, "instructions": self._request.get("instructions")}
        about |= {"model": self._request["model"], "object": "response", "output": [], "status": status}
        return about | {"tools": self._request.get("tools") or [], "usage": None}


def _pieces(delta: Json) -> list[Json]:
    """Split a chat delta into pieces of items: the item that each belongs to, and its text."""
    if "tool_calls" in delta:
        return [
            {
                "kind": "function_call",
                "index": entry["index"],
                "id": entry.get("id"),
                "name": entry["function"].get("name"),
                "text": entry["function"].get("arguments", ""),
            }
            for entry in delta["tool_calls"]
        ]
    kind = "reasoning" if "reasoning" in delta else "message"
    return [{"kind": kind, "index": 0, "text": delta.get(kind if kind == "reasoning" else "content") or ""}]


class _ItemStream:
    """The events of one item: reasoning, a message or a call. `data` is the item in the complete answer."""

    def __init__(self, number: int, piece: Json) -> None:
        self._kind, self._index = piece["kind"], piece["index"]
        self._text = ""
        initial: Json
        if self._kind == "reasoning":
            initial = {"id": f"rs_{_id()}", "summary": [], "type": "reasoning", "content": None}
            initial |= {"encrypted_content": None}
        elif self._kind == "message":
            initial = {"id": f"msg_{_id()}", "content": [], "role": "assistant", "type": "message", "phase": None}
        else:
            initial = {"arguments": "", "call_id": piece["id"], "name": piece["name"], "type": "function_call"}
            initial |= {"id": f"fc_{_id()}", "async": None, "caller": None, "namespace": None}
        self.data = initial | {"status": "in_progress"}
        self._position = {"item_id": self.data["id"], "output_index": number}
        in_part = {} if self._kind == "function_call" else {"content_index": 0}
        self._part_position: Json = in_part | self._position

    @property
    def _name(self) -> str:
        names = {"reasoning": "reasoning_text", "message": "output_text", "function_call": "function_call_arguments"}
        return names[self._kind]

    def continues_with(self, piece: Json) -> bool:
        return bool(piece["kind"] == self._kind and piece["index"] == self._index)

    async def begin(self, send: SendEvent) -> None:
        await send("response.output_item.added", item=dict(self.data), output_index=self._position["output_index"])
        if self._kind != "function_call":
            await send("response.content_part.added", **self._part_position, part=self._part("", logprobs=[]))

    async def add(self, send: SendEvent, text: str) -> None:
        self._text += text
        if text:
            more: Json = {"logprobs": []} if self._kind == "message" else {}
            await send(f"response.{self._name}.delta", **self._part_position, **more, delta=text)

    async def end(self, send: SendEvent) -> None:
        if self._kind == "function_call":
            self.data["arguments"] = self._text
            result = {"arguments": self._text, "name": self.data["name"]}
            await send(f"response.{self._name}.done", **self._position, **result)
        else:
            part = self._part(self._text, logprobs=None)
            more: Json = {"logprobs": []} if self._kind == "message" else {}
            self.data["content"] = [part]
            await send(f"response.{self._name}.done", **self._part_position, **more, text=self._text)
            await send("response.content_part.done", **self._part_position, part=part)
        self.data["status"] = "completed"
        await send("response.output_item.done", item=dict(self.data), output_index=self._position["output_index"])

    def _part(self, text: str, *, logprobs: list[Json] | None) -> Json:
        if self._kind == "reasoning":
            return {"text": text, "type": "reasoning_text"}
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _id() -> str:
    return uuid.uuid4().hex[:16]

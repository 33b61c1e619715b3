"""An answer over `/v1/responses` as vLLM 0.32 gives it: item after item, each in a flurry of events."""

import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from pi_cli.demo.engine.chat import Completion, Emit

Json = dict[str, Any]
Tell = Callable[..., Awaitable[None]]


def messages(request: Json) -> list[Json]:
    """Return what was said so far as messages of a chat."""
    given = request.get("input") or ""
    said = [{"role": "system", "content": request["instructions"]}] if request.get("instructions") else []
    if isinstance(given, str):
        return [*said, {"role": "user", "content": given}]
    for item in given:
        if item.get("type") == "function_call_output":
            said.append({"role": "tool", "content": item["output"]})
        else:
            said.append({"role": item.get("role", "assistant"), "content": item.get("content")})
    return said


class Responses:
    """One answer on its way out, made from the pieces of a chat completion."""

    def __init__(self, request: Json, completion: Completion) -> None:
        self._request = request
        self._completion = completion
        self._id, self._created = f"resp_{_id()}", int(time.time())
        self._items: list[Json] = []
        self._count = 0

    async def stream(self, emit: Emit) -> None:
        async def tell(kind: str, **what: Any) -> None:
            event = {**what, "sequence_number": self._count, "type": kind}
            self._count += 1
            await emit(f"event: {kind}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode())

        await tell("response.created", response=self._whole("in_progress"))
        await tell("response.in_progress", response=self._whole("in_progress"))
        await self._say(tell)
        await tell("response.completed", response=self.finished())

    async def whole(self) -> Json:
        async def keep_quiet(kind: str, **what: Any) -> None:
            del kind, what

        await self._say(keep_quiet)
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

    async def _say(self, tell: Tell) -> None:
        item: _Item | None = None
        async for delta in self._completion.paced():
            for piece in _pieces(delta):
                if item is None or not item.goes_on_with(piece):
                    if item:
                        await item.end(tell)
                    item = _Item(len(self._items), piece)
                    self._items.append(item.data)
                    await item.begin(tell)
                await item.add(tell, piece["text"])
        if item:
            await item.end(tell)

    def _whole(self, status: str) -> Json:
        about = {"id": self._id, "created_at": self._created, "instructions": self._request.get("instructions")}
        about |= {"model": self._request["model"], "object": "response", "output": [], "status": status}
        return about | {"tools": self._request.get("tools") or [], "usage": None}


def _pieces(delta: Json) -> list[Json]:
    """Cut a delta of a chat into pieces of items: what they belong to, and their text."""
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


class _Item:
    """Thoughts, words or a call, from its beginning to its end. `data` is what the answer holds of it in the end."""

    def __init__(self, number: int, piece: Json) -> None:
        self._kind, self._index = piece["kind"], piece["index"]
        self._text = ""
        begun: Json
        if self._kind == "reasoning":
            begun = {"id": f"rs_{_id()}", "summary": [], "type": "reasoning", "content": None}
            begun |= {"encrypted_content": None}
        elif self._kind == "message":
            begun = {"id": f"msg_{_id()}", "content": [], "role": "assistant", "type": "message", "phase": None}
        else:
            begun = {"arguments": "", "call_id": piece["id"], "name": piece["name"], "type": "function_call"}
            begun |= {"id": f"fc_{_id()}", "async": None, "caller": None, "namespace": None}
        self.data = begun | {"status": "in_progress"}
        self._where = {"item_id": self.data["id"], "output_index": number}
        self._part_where = self._where if self._kind == "function_call" else {"content_index": 0, **self._where}

    @property
    def _name(self) -> str:
        names = {"reasoning": "reasoning_text", "message": "output_text", "function_call": "function_call_arguments"}
        return names[self._kind]

    def goes_on_with(self, piece: Json) -> bool:
        return bool(piece["kind"] == self._kind and piece["index"] == self._index)

    async def begin(self, tell: Tell) -> None:
        await tell("response.output_item.added", item=dict(self.data), output_index=self._where["output_index"])
        if self._kind != "function_call":
            await tell("response.content_part.added", **self._part_where, part=self._part("", logprobs=[]))

    async def add(self, tell: Tell, text: str) -> None:
        self._text += text
        if text:
            more: Json = {"logprobs": []} if self._kind == "message" else {}
            await tell(f"response.{self._name}.delta", **self._part_where, **more, delta=text)

    async def end(self, tell: Tell) -> None:
        if self._kind == "function_call":
            self.data["arguments"] = self._text
            told = {"arguments": self._text, "name": self.data["name"]}
            await tell(f"response.{self._name}.done", **self._where, **told)
        else:
            part = self._part(self._text, logprobs=None)
            more: Json = {"logprobs": []} if self._kind == "message" else {}
            self.data["content"] = [part]
            await tell(f"response.{self._name}.done", **self._part_where, **more, text=self._text)
            await tell("response.content_part.done", **self._part_where, part=part)
        self.data["status"] = "completed"
        await tell("response.output_item.done", item=dict(self.data), output_index=self._where["output_index"])

    def _part(self, text: str, *, logprobs: list[Json] | None) -> Json:
        if self._kind == "reasoning":
            return {"text": text, "type": "reasoning_text"}
        return {"annotations": [], "text": text, "type": "output_text", "logprobs": logprobs}


def _id() -> str:
    return uuid.uuid4().hex[:16]

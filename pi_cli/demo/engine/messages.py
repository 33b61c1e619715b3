"""An answer over `/v1/messages`, the interface of Anthropic's clients, in the format of vLLM 0.32."""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from pi_cli.demo.engine.chat import Completion, Emit

Json = dict[str, Any]

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
DELTAS = {"thinking": "thinking_delta", "text": "text_delta", "tool_use": "input_json_delta"}
TEXTS = {"thinking": "thinking", "text": "text", "tool_use": "partial_json"}


def as_chat(request: Json) -> Json:
    """Return the request of a chat that asks for the same."""
    chat = [{"role": "system", "content": request["system"]}] if request.get("system") else []
    for message in request.get("messages") or []:
        content = message.get("content")
        results = [part for part in content if part.get("type") == "tool_result"] if isinstance(content, list) else []
        chat += [{"role": "tool", "content": result.get("content")} for result in results]
        if not results:
            chat.append({"role": message.get("role"), "content": content})
    return {"model": request.get("model"), "messages": chat, "max_tokens": request.get("max_tokens")} | {
        "tools": request.get("tools")
    }


class Messages:
    """One answer while it is generated, from the pieces of a chat completion."""

    def __init__(self, model: str, completion: Completion) -> None:
        self._model, self._completion = model, completion
        self._id = f"msg_{uuid.uuid4().hex[:16]}"
        self._blocks: list[Json] = []

    async def whole(self) -> Json:
        async for _ in self._events():
            pass
        for block in self._blocks:
            if block["type"] == "tool_use":
                block["input"] = json.loads(block["input"] or "{}")
        return self._message() | {"content": self._blocks, "stop_reason": self._stop_reason, "usage": self._usage()}

    async def stream(self, emit: Emit) -> None:
        async def send(event: Json) -> None:
            await emit(f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode())

        await send({"type": "message_start", "message": self._message()})
        async for event in self._events():
            await send(event)
        delta = {"stop_reason": self._stop_reason, "stop_sequence": None}
        await send({"type": "message_delta", "delta": delta, "usage": self._usage()})
        await send({"type": "message_stop"})

    async def _events(self) -> AsyncIterator[Json]:
        """Yield the events of the blocks, one block after the other."""
        place = None
        async for delta in self._completion.paced():
            for kind, call, text in _pieces(delta):
                index = len(self._blocks) - 1
                if place != (kind, call):
                    if place:
                        yield {"type": "content_block_stop", "index": index}
                    place, index = (kind, call), index + 1
                    self._blocks.append(_block(kind, delta))
                    empty = _block(kind, delta) | ({"input": {}} if kind == "tool_use" else {})
                    yield {"type": "content_block_start", "index": index, "content_block": empty}
                self._blocks[-1]["input" if kind == "tool_use" else kind] += text
                if text:
                    yield {
                        "type": "content_block_delta",
                        "index": index,
                        "delta": {"type": DELTAS[kind], TEXTS[kind]: text},
                    }
        if place:
            yield {"type": "content_block_stop", "index": len(self._blocks) - 1}

    @property
    def _stop_reason(self) -> str:
        return STOP_REASONS[self._completion.finish_reason]

    def _message(self) -> Json:
        message = {"id": self._id, "type": "message", "role": "assistant", "content": [], "model": self._model}
        usage = {"input_tokens": self._completion.prompt_tokens, "output_tokens": 0}
        return message | {"stop_reason": None, "stop_sequence": None, "usage": usage}

    def _usage(self) -> Json:
        return {"input_tokens": self._completion.prompt_tokens, "output_tokens": self._completion.sent}


def _pieces(delta: Json) -> list[tuple[str, int, str]]:
    """Split a chat delta into (kind of block, number of the call, text)."""
    if "tool_calls" in delta:
        return [("tool_use", entry["index"], entry["function"].get("arguments") or "") for entry in delta["tool_calls"]]
    if "reasoning" in delta:
        return [("thinking", 0, delta["reasoning"])]
    return [("text", 0, delta["content"])] if delta.get("content") else []


def _block(kind: str, delta: Json) -> Json:
    """Return an empty block."""
    if kind == "tool_use":
        tool = delta["tool_calls"][0]
        return {"type": kind, "id": tool["id"], "name": tool["function"]["name"], "input": ""}
    return {"type": "thinking", "thinking": "", "signature": ""} if kind == "thinking" else {"type": "text", "text": ""}

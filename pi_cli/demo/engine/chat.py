"""A chat completion in exactly the format of vLLM 0.32, in one piece or streamed."""

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from pi_cli.demo.engine.script import Call, ScriptedTurn, tokenize

Json = dict[str, Any]
Emit = Callable[[bytes], Awaitable[None]]

FINGERPRINT = "vllm-0.32.0-simulated"


def pieces(turn: ScriptedTurn, *, thinks: bool, parses_thinking: bool, parses_calls: bool) -> list[Json]:
    """Split a turn into the deltas of a stream, one per token.

    Without a parser, reasoning and tool calls are plain content, as the model wrote them.
    """
    deltas: list[Json] = []
    if thinks:
        inner = tokenize(f"\n{turn.thinking}\n")
        if parses_thinking:
            deltas += [{"reasoning": word} for word in inner]
        else:
            deltas += [{"content": word} for word in ["<think>", *inner, "</think>"]]
        deltas += [{"content": "\n"}, {"content": "\n"}]
    deltas += [{"content": word} for word in tokenize(turn.answer)]
    for index, call in enumerate(turn.calls):
        if parses_calls:
            deltas += _call_deltas(index, call)
        else:
            text = f'<tool_call>\n{{"name": "{call.tool}", "arguments": {call.json}}}\n</tool_call>'
            deltas += [{"content": word} for word in tokenize(text)]
    return deltas


def _call_deltas(index: int, call: Call) -> list[Json]:
    """Start with two entries of the same index in one delta; then the arguments, a copied value letter by letter."""
    tool = {"id": f"chatcmpl-tool-{_id()}", "type": "function", "index": index, "function": {"name": call.tool}}
    value = call.json[len(f'{{"{call.argument}": "') : -len('"}')]
    fragments = [call.argument, '":', *([' "', *value, '"'] if call.is_copied else [f' "{value}"']), "}"]
    opening: list[Json] = [{"content": None, "tool_calls": [tool, _fragment(index, '{"')]}]
    return opening + [{"content": None, "tool_calls": [_fragment(index, text)]} for text in fragments]


def _fragment(index: int, text: str) -> Json:
    return {"index": index, "function": {"arguments": text}}


class Completion:
    """One answer while it is generated. `rate` is in tokens per second."""

    def __init__(
        self,
        request: Json,
        deltas: list[Json],
        *,
        prompt_tokens: int,
        rate: float,
        engine: Callable[[], Awaitable[None]],
    ) -> None:
        limit = request.get("max_completion_tokens") or request.get("max_tokens") or len(deltas)
        has_calls = any("tool_calls" in delta for delta in deltas)
        self.deltas = deltas[:limit]
        self.finish_reason = "length" if limit < len(deltas) else "tool_calls" if has_calls else "stop"
        self.sent = 0
        self.first_token: float | None = None  # seconds
        self.prompt_tokens = prompt_tokens
        self._rate = rate
        self._engine = engine
        self._head = {"id": f"chatcmpl-{_id()}", "created": int(time.time()), "model": request["model"]}
        options = request.get("stream_options") or {}
        self._has_usage = bool(options.get("include_usage"))
        self._has_continuous_usage = self._has_usage and bool(options.get("continuous_usage_stats"))

    async def stream(self, emit: Emit) -> None:
        """Emit server-sent events, the last of them `[DONE]`."""
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        await emit(self._event([first], {"prompt_token_ids": None, "prompt_text": None}))
        async for delta in self.paced():
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": None}
            await emit(self._event([choice]))
        last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": self.finish_reason}
        closing = {} if self._has_usage else {"system_fingerprint": FINGERPRINT}
        await emit(self._event([last | {"stop_reason": None, "token_ids": None}], closing))
        if self._has_usage:
            await emit(self._event([], {"usage": self.usage(), "system_fingerprint": FINGERPRINT}))
        await emit(b"data: [DONE]\n\n")

    async def whole(self) -> Json:
        """Return the answer in one piece, after the generation time."""
        reasoning, content = "", ""
        calls: list[Json] = []
        async for delta in self.paced():
            reasoning += delta.get("reasoning") or ""
            content += delta.get("content") or ""
            for entry in delta.get("tool_calls", []):
                if "id" in entry:
                    calls.append({key: value for key, value in entry.items() if key != "index"})
                    calls[-1]["function"] = {"name": entry["function"]["name"], "arguments": ""}
                else:
                    calls[-1]["function"]["arguments"] += entry["function"]["arguments"]
        message: Json = {
            "role": "assistant",
            "content": None if calls else content,
            "refusal": None,
            "annotations": None,
        }
        message |= {"audio": None, "function_call": None, "tool_calls": calls, "reasoning": reasoning or None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        answer = {"object": "chat.completion", "choices": [choice | {"stop_reason": None, "token_ids": None}]}
        return self._head | answer | {"usage": self.usage(), "system_fingerprint": FINGERPRINT}

    def usage(self) -> Json:
        reasoning = sum("reasoning" in delta for delta in self.deltas[: self.sent])
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + self.sent,
            "completion_tokens": self.sent,
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    async def paced(self) -> Any:
        """Yield the pieces at the given rate."""
        loop = asyncio.get_running_loop()
        due = began = loop.time()
        for delta in self.deltas:
            due += 1 / self._rate
            await asyncio.sleep(max(due - loop.time(), 0))
            await self._engine()
            self.sent += 1
            if self.first_token is None:
                self.first_token = loop.time() - began
            yield delta

    def _event(self, choices: list[Json], more: Json | None = None) -> bytes:
        identity, created, model = self._head["id"], self._head["created"], self._head["model"]
        chunk: Json = {"id": identity, "object": "chat.completion.chunk", "created": created, "model": model}
        chunk["choices"] = choices
        if self._has_continuous_usage and choices:
            chunk["usage"] = self.usage()
        return (
            b"data: " + json.dumps(chunk | (more or {}), separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"
        )


def _id() -> str:
    return uuid.uuid4().hex[:16]

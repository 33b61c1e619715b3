"""A turn over `/v1/responses`, which gpt-oss was made for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import Served, stopped
from pi_cli.chat.turn import Draft, Message, Request, Turn, answer, sendable, string

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

# What older versions of vLLM and other servers call the thoughts.
THINKING = frozenset({
    "response.reasoning_text.delta", "response.reasoning.delta", "response.reasoning_summary_text.delta",
})  # fmt: skip


async def take_turn(client: "Client", request: Request, turn: Turn) -> None:
    """Let the model speak once, into `turn`."""
    happenings = _Happenings(request.model, turn)
    async with answer(client, "/responses", options(request), request.model, turn.report) as events:
        async for event in events:
            happenings.add(event)
    if turn.finish is None:
        raise stopped(request.model, "its answer ended early")


def options(request: Request) -> dict[str, Any]:
    """Return a request in the API's own words. The server is to keep nothing of it: it is sent whole every time."""
    asked: dict[str, Any] = {
        "model": request.model.name,
        "instructions": sendable(request.system),
        "input": sendable(list(items(request.messages))),
        "stream": True,
        "store": False,
    }
    if request.tools:
        asked["tools"] = [{"type": "function", "strict": False, **tool.offer()} for tool in request.tools.values()]
        asked["tool_choice"] = request.tool_choice
    wishes: Mapping[str, Any] = {
        "temperature": request.sampling.temperature,
        "max_output_tokens": request.sampling.max_tokens,
    }
    return asked | {name: value for name, value in wishes.items() if value is not None}


def items(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """Turn messages of `/v1/chat/completions` into items: thoughts, words and calls of one message are one each."""
    for number, message in enumerate(messages):
        match message:
            case {"role": "tool"}:
                yield {
                    "type": "function_call_output",
                    "call_id": message["tool_call_id"],
                    "output": message["content"],
                }
            case {"role": "assistant"}:
                yield from _said(message, number)
            case _:
                yield {"type": "message", "role": message["role"], "content": message["content"]}


def _said(message: Message, number: int) -> Iterator[dict[str, Any]]:
    if thoughts := message.get("reasoning"):
        content = [{"type": "reasoning_text", "text": thoughts}]
        yield {"type": "reasoning", "id": f"rs_{number}", "summary": [], "content": content}
    if text := message.get("content"):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        yield {
            "type": "message",
            "id": f"msg_{number}",
            "role": "assistant",
            "status": "completed",
            "content": content,
        }
    for call in message.get("tool_calls") or ():
        yield {"type": "function_call", "call_id": call["id"], **call["function"]}


@dataclass(slots=True)
class _Happenings:
    """Puts a turn together from the events of its stream. What is not as the API has it is passed over."""

    model: Served
    turn: Turn
    drafts: dict[int, Draft] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        match event:
            case {"type": "response.output_text.delta", "delta": str(text)}:
                self.turn.hear(text=text)
            case {"type": str(kind), "delta": str(thinking)} if kind in THINKING:
                self.turn.hear(thinking=thinking)
            case {"type": "response.function_call_arguments.delta", "output_index": int(index), "delta": str(piece)}:
                self.turn.hear()
                self.draft(index).arguments += piece
            case {
                "type": "response.output_item.added" | "response.output_item.done",
                "output_index": int(index),
                "item": {"type": "function_call", **item},
            }:
                self.write(index, item)
            case {"type": "response.completed" | "response.incomplete", "response": {**response}}:
                self.end(response)
            case {"type": "response.failed", "response": {"error": {"message": str(reason)}}}:
                raise stopped(self.model, reason)
            case {"type": "error", "message": str(reason)}:
                raise stopped(self.model, reason)
            case {"type": "response.failed" | "error"}:
                raise stopped(self.model, "it says that it failed")

    def draft(self, index: int) -> Draft:
        if index not in self.drafts:
            self.drafts[index] = Draft()
            self.turn.drafts.append(self.drafts[index])
        return self.drafts[index]

    def write(self, index: int, item: Mapping[Any, Any]) -> None:
        """Take a call as the server has it: first without arguments, in the end whole."""
        draft = self.draft(index)
        draft.id = string(item, "call_id") or string(item, "id") or draft.id
        draft.name = string(item, "name") or draft.name
        draft.arguments = string(item, "arguments") or draft.arguments

    def end(self, response: Mapping[Any, Any]) -> None:
        self.turn.finish = "length" if response.get("status") == "incomplete" else "stop"
        match response:
            case {"usage": {"input_tokens": int(read), "output_tokens": int(written)}}:
                self.turn.prompt_tokens, self.turn.completion_tokens = read, written

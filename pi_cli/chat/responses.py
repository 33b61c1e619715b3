"""A turn over `/v1/responses`, which gpt-oss was made for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import Served, refusals, stopped
from pi_cli.chat.turn import Draft, Message, Request, Turn, impatience, pieces, sendable

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

# What older versions of vLLM and other servers call the thoughts.
THINKING = frozenset({
    "response.reasoning_text.delta", "response.reasoning.delta", "response.reasoning_summary_text.delta",
})  # fmt: skip


async def take_turn(client: "Client", request: Request, turn: Turn) -> None:
    """Let the model speak once, into `turn`; leaving early closes the stream, whereupon vLLM stops generating."""
    with refusals(request.model), impatience(turn.report):
        stream = await client.responses.create(**options(request))
    happenings = _Happenings(request.model, turn)
    async with stream, aclosing(pieces(stream, model=request.model, report=turn.report)) as answer:
        async for event in answer:
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
    """Puts a turn together from the events of its stream. Events may lack what their types promise."""

    model: Served
    turn: Turn
    drafts: dict[int, Draft] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        match event.type:
            case kind if kind in THINKING:
                self.turn.hear(thinking=event.delta)
            case "response.output_text.delta":
                self.turn.hear(text=event.delta)
            case "response.output_item.added" | "response.output_item.done" if event.item.type == "function_call":
                self.write(event.output_index, event.item)
            case "response.function_call_arguments.delta":
                self.turn.hear()
                self.draft(event.output_index).arguments += event.delta
            case "response.completed" | "response.incomplete":
                self.end(event.response)
            case "response.failed":
                raise stopped(self.model, getattr(event.response.error, "message", None) or "it says that it failed")
            case "error":
                raise stopped(self.model, getattr(event, "message", None) or "it says that it failed")

    def draft(self, index: int) -> Draft:
        if index not in self.drafts:
            self.drafts[index] = Draft()
            self.turn.drafts.append(self.drafts[index])
        return self.drafts[index]

    def write(self, index: int, item: Any) -> None:
        """Take a call as the server has it: first without arguments, in the end whole."""
        draft = self.draft(index)
        draft.id = item.call_id or item.id or draft.id
        draft.name = item.name or draft.name
        draft.arguments = item.arguments or draft.arguments

    def end(self, response: Any) -> None:
        is_cut = getattr(response, "status", None) == "incomplete"
        self.turn.finish = "length" if is_cut else "stop"
        if usage := getattr(response, "usage", None):
            self.turn.prompt_tokens = usage.input_tokens
            self.turn.completion_tokens = usage.output_tokens

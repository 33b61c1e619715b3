"""A turn over `/v1/responses`, the API that gpt-oss was made for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import ServedModel, answer_failed
from pi_cli.chat.requirements import SCHEMA_NAME, TOOL_CHOICES
from pi_cli.chat.turn import Draft, Message, Request, Turn, encodable, stream_answer, text_of

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

# The second and third are the names in older versions of vLLM and in other servers.
REASONING_EVENTS = frozenset({
    "response.reasoning_text.delta", "response.reasoning.delta", "response.reasoning_summary_text.delta",
})  # fmt: skip


async def take_turn(client: "Client", request: Request, turn: Turn) -> None:
    """Generate one turn of the model into `turn`."""
    reader = _EventReader(request.model, turn)
    async with stream_answer(client, "/responses", request_body(request), request.model, turn.report) as events:
        async for event in events:
            reader.add(event)
    if turn.finish is None:
        raise answer_failed(request.model, "the stream ended early")


def request_body(request: Request) -> dict[str, Any]:
    """Return the body of the HTTP request. The server stores nothing: the whole conversation is sent every time."""
    body: dict[str, Any] = {
        "model": request.model.name,
        "instructions": encodable(request.system),
        "input": encodable(list(items(request.messages))),
        "stream": True,
        "store": False,
    }
    if request.tools:
        body["tools"] = [{"type": "function", "strict": False, **tool.offer()} for tool in request.tools.values()]
        choice = request.tool_choice
        body["tool_choice"] = choice if choice in TOOL_CHOICES else {"type": "function", "name": choice}
    sampling = request.sampling
    optional: Mapping[str, Any] = {
        "temperature": sampling.temperature,
        "max_output_tokens": sampling.max_tokens,
        "reasoning": {"effort": sampling.reasoning} if sampling.reasoning else None,
    }
    if sampling.schema is not None:
        form = {"type": "json_schema", "name": SCHEMA_NAME, "schema": sampling.schema, "strict": True}
        body["text"] = {"format": form}
    return body | {name: value for name, value in optional.items() if value is not None}


def items(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    """Convert `/v1/chat/completions` messages to items: one each for the reasoning, text and calls of a message."""
    for number, message in enumerate(messages):
        match message:
            case {"role": "tool"}:
                yield {
                    "type": "function_call_output",
                    "call_id": message["tool_call_id"],
                    "output": message["content"],
                }
            case {"role": "assistant"}:
                yield from _assistant_items(message, number)
            case _:
                yield {"type": "message", "role": message["role"], "content": _parts(message["content"])}


def _parts(content: Any) -> Any:
    """Convert the parts of a prompt with images."""
    if not isinstance(content, list):
        return content
    return [
        {"type": "input_image", "image_url": part["image_url"]["url"], "detail": "auto"}
        if part["type"] == "image_url"
        else {"type": "input_text", "text": part["text"]}
        for part in content
    ]


def _assistant_items(message: Message, number: int) -> Iterator[dict[str, Any]]:
    if reasoning := message.get("reasoning"):
        content = [{"type": "reasoning_text", "text": reasoning}]
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
class _EventReader:
    """Assembles a turn from the events of its stream; skips anything that does not match the API."""

    model: ServedModel
    turn: Turn
    drafts: dict[int, Draft] = field(default_factory=dict)

    def add(self, event: Any) -> None:
        match event:
            case {"type": "response.output_text.delta" | "response.refusal.delta", "delta": str(text)}:
                self.turn.add(text=text)
            case {"type": str(kind), "delta": str(thinking)} if kind in REASONING_EVENTS:
                self.turn.add(thinking=thinking)
            case {"type": "response.function_call_arguments.delta", "output_index": int(index), "delta": str(piece)}:
                self.turn.add()
                self.draft(index).arguments += piece
            case {
                "type": "response.output_item.added" | "response.output_item.done",
                "output_index": int(index),
                "item": {"type": "function_call", **item},
            }:
                self.update_call(index, item)
            case {"type": "response.completed" | "response.incomplete", "response": {**response}}:
                self.end(response)
            case {"type": "response.failed", "response": {"error": {"message": str(reason)}}}:
                raise answer_failed(self.model, reason)
            case {"type": "error", "message": str(reason)}:
                raise answer_failed(self.model, reason)
            case {"type": "response.cancelled"}:
                self.turn.finish = "cancelled"
            case {"type": "response.failed" | "error"}:
                raise answer_failed(self.model, "the server reported a failure without a reason")

    def draft(self, index: int) -> Draft:
        if index not in self.drafts:
            self.drafts[index] = Draft()
            self.turn.drafts.append(self.drafts[index])
        return self.drafts[index]

    def update_call(self, index: int, item: Mapping[Any, Any]) -> None:
        """Take over the server's view of a call: first without arguments, complete at the end."""
        draft = self.draft(index)
        draft.id = text_of(item, "call_id") or text_of(item, "id") or draft.id
        draft.name = text_of(item, "name") or draft.name
        draft.arguments = text_of(item, "arguments") or draft.arguments

    def end(self, response: Mapping[Any, Any]) -> None:
        match response:
            case {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}:
                self.turn.finish = "content_filter"
            case {"status": "incomplete"}:
                self.turn.finish = "length"
            case _:
                self.turn.finish = "stop"
        match response:
            case {"usage": {"input_tokens": int(prompt_tokens), "output_tokens": int(completion_tokens)}}:
                self.turn.prompt_tokens, self.turn.completion_tokens = prompt_tokens, completion_tokens

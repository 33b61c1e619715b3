"""A turn over `/v1/chat/completions`, which every vLLM server supports.

`models.answers` reads the same API for `pi check`, on purpose with code of its own: it has to see what is malformed.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat import loose
from pi_cli.chat.client import answer_failed
from pi_cli.chat.requirements import SCHEMA_NAME, TOOL_CHOICES
from pi_cli.chat.turn import Draft, Request, Turn, encodable, stream_answer, text_of

if TYPE_CHECKING:
    from pi_cli.chat.client import Client


async def take_turn(client: "Client", request: Request, turn: Turn) -> None:
    """Generate one turn of the model into `turn`."""
    reader = _ChunkReader(turn, request.tools)
    async with stream_answer(client, "/chat/completions", request_body(request), request.model, turn.report) as chunks:
        async for chunk in chunks:
            reader.add(chunk)
    if turn.finish is None:
        raise answer_failed(request.model, "the stream ended early")


def request_body(request: Request) -> dict[str, Any]:
    """Return the body of the HTTP request."""
    body: dict[str, Any] = {
        "model": request.model.name,
        "messages": encodable([*_system(request), *request.messages]),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [{"type": "function", "function": tool.offer()} for tool in request.tools.values()]
        body["tool_choice"] = _tool_choice(request.tool_choice)
    optional: Mapping[str, Any] = {
        "temperature": request.sampling.temperature,
        "max_tokens": request.sampling.max_tokens,
        "reasoning_effort": request.sampling.reasoning,
    }
    if request.sampling.schema is not None:
        schema = {"name": SCHEMA_NAME, "schema": request.sampling.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body | {name: value for name, value in optional.items() if value is not None}


def _system(request: Request) -> list[dict[str, Any]]:
    return [{"role": "system", "content": request.system}] if request.system else []


def _tool_choice(choice: str) -> str | Mapping[str, Any]:
    return choice if choice in TOOL_CHOICES else {"type": "function", "function": {"name": choice}}


@dataclass(slots=True)
class _ChunkReader:
    """Assembles a turn from the chunks of its stream; skips anything that does not match the API."""

    turn: Turn
    tools: Collection[str] = ()
    unfinished: dict[int, Draft] = field(default_factory=dict)

    def add(self, chunk: Any) -> None:
        match chunk:
            case {"usage": {"prompt_tokens": int(prompt_tokens), "completion_tokens": int(completion_tokens)}}:
                self.turn.prompt_tokens, self.turn.completion_tokens = prompt_tokens, completion_tokens
        match chunk:
            case {"choices": [*choices]}:
                for choice in choices:
                    if not (isinstance(choice, dict) and choice.get("index")):  # of several answers, the first
                        self.add_choice(choice)

    def add_choice(self, choice: Any) -> None:
        match choice:
            case {"delta": {**delta}} | {"message": {**delta}}:  # the second in an answer in one piece
                self.add_delta(delta)
        match choice:
            case {"finish_reason": str(reason)} if reason:
                self.turn.finish = reason

    def add_delta(self, delta: Mapping[Any, Any]) -> None:
        # vLLM sends `reasoning`; its older versions and other engines send `reasoning_content`.
        thinking = text_of(delta, "reasoning") or text_of(delta, "reasoning_content")
        text = loose.text_in(delta.get("content")) or text_of(delta, "refusal")
        calls = delta.get("tool_calls")
        if not calls and isinstance(delta.get("function_call"), dict):  # the API before there were several tools
            calls = [{"function": delta["function_call"]}]
        if thinking or text or calls:
            self.turn.add(thinking=thinking, text=text)
        for piece in calls if isinstance(calls, list) else ():
            self.add_call_piece(piece)

    def add_call_piece(self, piece: Any) -> None:
        """Add a piece to the call with its index; one chunk may have several pieces of it (seen from vLLM 0.32).

        Another id under the same index is another call: some servers number every call 0.
        """
        if not isinstance(piece, dict):
            return
        id, index = text_of(piece, "id"), piece.get("index")
        index = index if isinstance(index, int) else 0
        draft = self.unfinished.get(index)
        if draft is None or (id and draft.id and id != draft.id):
            draft = self.unfinished[index] = Draft()
            self.turn.drafts.append(draft)
        draft.id = draft.id or id
        function = piece.get("function")
        if isinstance(function, dict):
            name = text_of(function, "name")
            if name != draft.name and draft.name not in self.tools:  # in pieces; some servers repeat it
                draft.name += name
            arguments = function.get("arguments")
            draft.arguments += json.dumps(arguments) if isinstance(arguments, dict) else text_of(function, "arguments")

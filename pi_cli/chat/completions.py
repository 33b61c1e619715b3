"""A turn over `/v1/chat/completions`, which every model of vLLM speaks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import stopped
from pi_cli.chat.turn import Draft, Request, Turn, answer, sendable, string

if TYPE_CHECKING:
    from pi_cli.chat.client import Client


async def take_turn(client: "Client", request: Request, turn: Turn) -> None:
    """Let the model speak once, into `turn`."""
    chunks = _Chunks(turn)
    async with answer(client, "/chat/completions", options(request), request.model, turn.report) as pieces:
        async for chunk in pieces:
            chunks.add(chunk)
    if turn.finish is None:
        raise stopped(request.model, "its answer ended early")


def options(request: Request) -> dict[str, Any]:
    """Return a request in the API's own words."""
    asked: dict[str, Any] = {
        "model": request.model.name,
        "messages": sendable([{"role": "system", "content": request.system}, *request.messages]),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        asked["tools"] = [{"type": "function", "function": tool.offer()} for tool in request.tools.values()]
        asked["tool_choice"] = request.tool_choice
    wishes: Mapping[str, Any] = {
        "temperature": request.sampling.temperature,
        "max_tokens": request.sampling.max_tokens,
    }
    return asked | {name: value for name, value in wishes.items() if value is not None}


@dataclass(slots=True)
class _Chunks:
    """Puts a turn together from the chunks of its stream. What is not as the API has it is passed over."""

    turn: Turn
    unfinished: dict[int, Draft] = field(default_factory=dict)

    def add(self, chunk: Any) -> None:
        match chunk:
            case {"usage": {"prompt_tokens": int(read), "completion_tokens": int(written)}}:
                self.turn.prompt_tokens, self.turn.completion_tokens = read, written
        match chunk:
            case {"choices": [*choices]}:
                for choice in choices:
                    self.choose(choice)

    def choose(self, choice: Any) -> None:
        match choice:
            case {"delta": {**delta}}:
                self.hear(delta)
        match choice:
            case {"finish_reason": str(reason)} if reason:
                self.turn.finish = reason

    def hear(self, delta: Mapping[Any, Any]) -> None:
        # vLLM says `reasoning`; its older versions and other engines say `reasoning_content`.
        thinking = string(delta, "reasoning") or string(delta, "reasoning_content")
        text = string(delta, "content")
        calls = delta.get("tool_calls")
        if thinking or text or calls:
            self.turn.hear(thinking=thinking, text=text)
        for piece in calls if isinstance(calls, list) else ():
            self.piece_together(piece)

    def piece_together(self, piece: Any) -> None:
        """Add a piece to the call with its index, of which one chunk may hold several pieces (seen from vLLM 0.32).

        Another id under the same index is another call: some servers number every call 0.
        """
        if not isinstance(piece, dict):
            return
        id, index = string(piece, "id"), piece.get("index")
        index = index if isinstance(index, int) else 0
        draft = self.unfinished.get(index)
        if draft is None or (id and draft.id and id != draft.id):
            draft = self.unfinished[index] = Draft()
            self.turn.drafts.append(draft)
        draft.id = draft.id or id
        function = piece.get("function")
        if isinstance(function, dict):
            draft.name = draft.name or string(function, "name")
            draft.arguments += string(function, "arguments")

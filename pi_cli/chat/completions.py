"""A turn over `/v1/chat/completions`, which every model of vLLM speaks."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import refusals, stopped
from pi_cli.chat.turn import Draft, Request, Turn, impatience, pieces, sendable

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

    from pi_cli.chat.client import Client


async def take_turn(client: "Client", request: Request, turn: Turn) -> None:
    """Let the model speak once, into `turn`.

    Leaving early, by cancellation for one, closes the stream, whereupon vLLM stops generating.
    """
    with refusals(request.model), impatience(turn.report):
        stream = await client.chat.completions.create(**options(request))
    chunks = _Chunks(turn)
    async with stream, aclosing(pieces(stream, model=request.model, report=turn.report)) as answer:
        async for chunk in answer:
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
    """Puts a turn together from the chunks of its stream."""

    turn: Turn
    unfinished: dict[int, Draft] = field(default_factory=dict)

    def add(self, chunk: "ChatCompletionChunk") -> None:
        if chunk.usage:
            self.turn.prompt_tokens = chunk.usage.prompt_tokens
            self.turn.completion_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices or ():
            if choice.delta:
                self.hear(choice.delta)
            self.turn.finish = choice.finish_reason or self.turn.finish

    def hear(self, delta: "ChoiceDelta") -> None:
        # vLLM says `reasoning`; its older versions and other engines say `reasoning_content`.
        thinking = getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None)
        if thinking or delta.content or delta.tool_calls:
            self.turn.hear(thinking=thinking, text=delta.content)
        for piece in delta.tool_calls or ():
            self.piece_together(piece)

    def piece_together(self, piece: "ChoiceDeltaToolCall") -> None:
        """Add a piece to the call with its index, of which one chunk may hold several pieces (seen from vLLM 0.32).

        Another id under the same index is another call: some servers number every call 0.
        """
        draft = self.unfinished.get(piece.index)
        if draft is None or (piece.id and draft.id and piece.id != draft.id):
            draft = self.unfinished[piece.index] = Draft()
            self.turn.drafts.append(draft)
        draft.id = draft.id or piece.id or ""
        if piece.function:
            draft.name = draft.name or piece.function.name or ""
            draft.arguments += piece.function.arguments or ""

"""One turn of a model: a request, and the answer as it streams in over `/v1/chat/completions`."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import interruptions, refusals, stopped
from pi_cli.chat.events import Notice, Report, Text, Thinking, ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk
    from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

Message = dict[str, Any]

PATIENCE = 15.0  # seconds without a word before we say that we are still waiting


@dataclass(slots=True)
class Draft:
    """A tool call while it streams in."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Turn:
    """What the model said in one go. `finish` is why it stopped, in the server's words; None if it never said."""

    text: str = ""
    thinking: str = ""
    drafts: list[Draft] = field(default_factory=list)
    unfinished: dict[int, Draft] = field(default_factory=dict)
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    began: float | None = None
    ended: float = 0.0

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls. Only these tell whether the model wants tools: `finish` says `stop` on older servers."""
        return [
            ToolCall(draft.id or f"call-{number}", draft.name, draft.arguments)
            for number, draft in enumerate(self.drafts)
        ]

    @property
    def seconds(self) -> float:
        return 0.0 if self.began is None else self.ended - self.began

    def add(self, chunk: "ChatCompletionChunk", report: Report) -> None:
        """Take in one chunk, and report what is new in it."""
        if chunk.usage:
            self.prompt_tokens = chunk.usage.prompt_tokens
            self.completion_tokens = chunk.usage.completion_tokens
        for choice in chunk.choices or ():
            self.ended = time.monotonic()
            self.finish = choice.finish_reason or self.finish
            if choice.delta:
                self.hear(choice.delta, report)

    def hear(self, delta: "ChoiceDelta", report: Report) -> None:
        # vLLM says `reasoning`; its older versions and other engines say `reasoning_content`.
        thinking = getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None)
        if thinking or delta.content or delta.tool_calls:
            self.began = self.began or self.ended
        if thinking:
            self.thinking += thinking
            report(Thinking(thinking))
        if delta.content:
            self.text += delta.content
            report(Text(delta.content))
        for piece in delta.tool_calls or ():
            self.piece_together(piece)

    def piece_together(self, piece: "ChoiceDeltaToolCall") -> None:
        """Add a piece to the call with its index, of which one chunk may hold several pieces (seen from vLLM 0.32).

        Another id under the same index is another call: some servers number every call 0.
        """
        draft = self.unfinished.get(piece.index)
        if draft is None or (piece.id and draft.id and piece.id != draft.id):
            draft = self.unfinished[piece.index] = Draft()
            self.drafts.append(draft)
        draft.id = draft.id or piece.id or ""
        if piece.function:
            draft.name = draft.name or piece.function.name or ""
            draft.arguments += piece.function.arguments or ""


async def take_turn(
    client: "AsyncOpenAI", *, model: str, messages: Sequence[Message], report: Report, **options: Any
) -> Turn:
    """Let the model speak once, reporting as it does. `options` are the API's own (`tools`, `temperature` …).

    Leaving early, by cancellation for one, closes the stream, whereupon vLLM stops generating.
    """
    turn = Turn()
    with refusals(model), impatience(report):
        stream = await client.chat.completions.create(
            model=model,
            messages=sendable(messages),
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
    async with stream:
        while chunk := await next_chunk(stream, model=model, report=report):
            turn.add(chunk, report)
    if turn.finish is None:
        raise stopped(model, "its answer ended early")
    return turn


async def next_chunk(
    stream: "AsyncStream[ChatCompletionChunk]", *, model: str, report: Report
) -> "ChatCompletionChunk | None":
    with interruptions(model), impatience(report):
        return await anext(stream, None)


@contextmanager
def impatience(report: Report, *, after: float = PATIENCE) -> Iterator[None]:
    """Report once if the block takes long, so that nobody wonders whether anything still happens."""
    notice = Notice(f"nothing came for {after:.0f} s, still waiting (Ctrl+C stops)")
    timer = asyncio.get_running_loop().call_later(after, report, notice)
    try:
        yield
    finally:
        timer.cancel()


def sendable(messages: Sequence[Message]) -> Any:
    """Return the messages as valid UTF-8 can hold them: a file name may contain what is no text at all."""
    return json.loads(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))

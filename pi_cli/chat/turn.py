"""One turn of a model: what it is asked, and what it says, piece by piece; the same for every API."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import Served, interruptions, refusals
from pi_cli.chat.events import Notice, Report, Text, Thinking, ToolCall
from pi_cli.chat.tools import Toolbox

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

Message = dict[str, Any]

SHORTEST = 0.1  # seconds of speaking that tell a speed
PATIENCE = 15.0  # seconds without a word before we say that we are still waiting


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model is to choose its words; what is None is left to the server."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked in one turn. In the last turn it sees the tools, but may not use them.

    `messages` are those of `/v1/chat/completions`, without the `system` one.
    """

    model: Served
    system: str
    messages: Sequence[Message]
    tools: Toolbox
    is_last: bool
    sampling: Sampling

    @property
    def tool_choice(self) -> str:
        return "none" if self.is_last else "auto"


@dataclass(slots=True)
class Draft:
    """A tool call while it streams in."""

    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Turn:
    """What the model says in one go. `finish` is why it stopped, in the server's words; None until it says."""

    report: Report
    text: str = ""
    thinking: str = ""
    drafts: list[Draft] = field(default_factory=list)
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    asked: float = field(default_factory=time.monotonic)
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
        """How long it spoke; where all came nearly at once, which has no duration, with the wait for it."""
        if self.began is None:
            return 0.0
        spoken = self.ended - self.began
        return spoken if spoken >= SHORTEST else self.ended - self.asked

    def hear(self, *, thinking: str | None = None, text: str | None = None) -> None:
        """Take in a piece, and report it. A piece of a tool call only counts the time."""
        self.ended = time.monotonic()
        self.began = self.began or self.ended
        if thinking:
            self.thinking += thinking
            self.report(Thinking(thinking))
        if text:
            self.text += text
            self.report(Text(text))


TakeTurn = Callable[["Client", Request, Turn], Awaitable[None]]


@asynccontextmanager
async def answer(
    client: "Client", path: str, asked: Mapping[str, Any], model: Served, report: Report
) -> AsyncIterator[AsyncGenerator[Any]]:
    """Ask a model, and give what it answers, piece by piece: the JSON of the server's events.

    By the SDK's way to routes that it does not know. For those it knows it looks its types up, which makes the first
    token 40 ms later, and builds objects of all that comes: 10,000 tokens a second instead of 47,000.

    Leaving early, by cancellation for one, closes the stream, whereupon vLLM stops generating.
    """
    import openai

    with refusals(model), impatience(report):
        stream = await client.post(path, body=asked, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object])
    async with stream, aclosing(_pieces(stream, model, report)) as pieces:
        yield pieces


async def _pieces(stream: AsyncIterator[Any], model: Served, report: Report) -> AsyncGenerator[Any]:
    """Yield the pieces of an answer; say so when one takes long."""
    end = object()
    with impatience(report) as came:
        while True:
            with interruptions(model):
                piece = await anext(stream, end)
            if piece is end:
                return
            came()
            yield piece


@contextmanager
def impatience(report: Report, *, after: float = PATIENCE) -> Iterator[Callable[[], None]]:
    """Report when nothing comes for long while the block runs, so that nobody wonders whether anything still happens.

    Gives what is to be called when something comes. One timer does for all of it: thousands of tokens come in a second.
    """
    loop = asyncio.get_running_loop()
    notice = Notice(f"nothing came for {after:.0f} s, still waiting (Ctrl+C stops)")
    due = loop.time() + after
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        left = due - loop.time()
        timer = loop.call_later(left, look) if left > 0 else None
        if timer is None:
            report(notice)

    def came() -> None:
        nonlocal due, timer
        due = loop.time() + after
        timer = timer or loop.call_later(after, look)

    timer = loop.call_later(after, look)
    try:
        yield came
    finally:
        if timer:
            timer.cancel()


def string(data: Mapping[Any, Any], name: str) -> str:
    """Return a string of an answer; the empty one where there is none."""
    value = data.get(name)
    return value if isinstance(value, str) else ""


def sendable(data: Any) -> Any:
    """Return data as valid UTF-8 can hold it: a file name may contain what is no text at all."""
    return json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))

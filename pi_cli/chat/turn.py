"""One turn of a model: the request, and the reply while it streams in; the same for every API."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import RouteNotServed, ServedModel, explain, request_errors, stream_errors
from pi_cli.chat.events import ChatReport, Notice, Text, Thinking, ToolCall
from pi_cli.chat.tools import Toolbox

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

Message = dict[str, Any]

MIN_GENERATION_SECONDS = 0.1  # below this, a generation time says nothing about speed
SILENCE_SECONDS = 15.0  # without data, after which a notice is shown


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None leaves the choice to the server."""

    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The request of one turn. In the last turn the model sees the tools but may not use them.

    `messages` are those of `/v1/chat/completions`, without the system message.
    """

    model: ServedModel
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
    """The reply of one turn. `finish` is the server's reason for its end; None until the server has sent it."""

    report: ChatReport
    begin: Callable[[], None] = lambda: None  # called when the first token has arrived
    text: str = ""
    thinking: str = ""
    drafts: list[Draft] = field(default_factory=list)
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    asked_at: float = field(default_factory=time.monotonic)
    first_piece_at: float | None = None
    last_piece_at: float = 0.0

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls. Only these show whether the model wants tools: older servers set `finish` to `stop`."""
        return [
            ToolCall(draft.id or f"call-{number}", draft.name, draft.arguments)
            for number, draft in enumerate(self.drafts)
        ]

    @property
    def seconds(self) -> float:
        """The generation time; if all pieces arrived at almost the same time, the time since the request."""
        if self.first_piece_at is None:
            return 0.0
        generation = self.last_piece_at - self.first_piece_at
        return generation if generation >= MIN_GENERATION_SECONDS else self.last_piece_at - self.asked_at

    def add(self, *, thinking: str | None = None, text: str | None = None) -> None:
        """Add a piece and report it. Without arguments (a piece of a tool call) only the time is recorded."""
        self.last_piece_at = time.monotonic()
        if self.first_piece_at is None:
            self.first_piece_at = self.last_piece_at
            self.begin()
        if thinking:
            self.thinking += thinking
            self.report(Thinking(thinking))
        if text:
            self.text += text
            self.report(Text(text))


TakeTurn = Callable[["Client", Request, Turn], Awaitable[None]]


@asynccontextmanager
async def stream_answer(
    client: "Client", path: str, body: Mapping[str, Any], model: ServedModel, report: ChatReport
) -> AsyncIterator[AsyncGenerator[Any]]:
    """Send a request and give the answer piece by piece: the JSON of the server's events.

    Uses the SDK's method for routes that it does not know. For known routes the SDK looks up its types, which delays
    the first token by 40 ms, and builds objects from everything: 10,000 tokens a second instead of 47,000.

    Leaving early, for example by cancellation, closes the stream, and vLLM then stops generating.
    """
    import openai

    try:
        with request_errors(model), silence_notice(report):
            stream = await client.post(
                path, body=body, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
    except RouteNotServed as error:
        raise await explain(client, model, error) from error
    async with stream, aclosing(_pieces(stream, model, report)) as pieces:
        yield pieces


async def _pieces(stream: AsyncIterator[Any], model: ServedModel, report: ChatReport) -> AsyncGenerator[Any]:
    """Yield the pieces of an answer; show a notice when one takes long."""
    end = object()
    with silence_notice(report) as data_arrived:
        while True:
            with stream_errors(model):
                piece = await anext(stream, end)
            if piece is end:
                return
            data_arrived()
            yield piece


@contextmanager
def silence_notice(report: ChatReport, *, after: float = SILENCE_SECONDS) -> Iterator[Callable[[], None]]:
    """Report once when no data arrives for `after` seconds while the block runs.

    Gives a function to call when data arrives. One timer is enough for all of it: thousands of tokens arrive in a
    second.
    """
    loop = asyncio.get_running_loop()
    notice = Notice(f"no data for {after:.0f} s, still waiting (Ctrl+C stops)")
    due = loop.time() + after
    timer: asyncio.TimerHandle | None = None

    def check() -> None:
        nonlocal timer
        left = due - loop.time()
        timer = loop.call_later(left, check) if left > 0 else None
        if timer is None:
            report(notice)

    def data_arrived() -> None:
        nonlocal due, timer
        due = loop.time() + after
        timer = timer or loop.call_later(after, check)

    timer = loop.call_later(after, check)
    try:
        yield data_arrived
    finally:
        if timer:
            timer.cancel()


def text_of(data: Mapping[Any, Any], name: str) -> str:
    """Return a string field of an answer, or the empty string."""
    value = data.get(name)
    return value if isinstance(value, str) else ""


def encodable(data: Any) -> Any:
    """Return JSON data that UTF-8 can encode: file names may contain lone surrogates, which become `?`."""
    return json.loads(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace"))

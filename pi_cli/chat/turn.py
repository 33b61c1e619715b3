"""One turn of a model: the request, and the reply while it streams in; the same for every API."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pi_cli.chat import loose
from pi_cli.chat.client import RouteNotServed, ServedModel, answer_failed, explain, request_errors, stream_errors
from pi_cli.chat.events import ChatReport, Notice, Text, Thinking, ToolCall
from pi_cli.chat.stalls import ended_if_stalled
from pi_cli.chat.tools import Toolbox

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

Message = dict[str, Any]

MIN_GENERATION_SECONDS = 0.1  # below this, a generation time says nothing about speed
SILENCE_SECONDS = 15.0  # without data, after which a notice is shown


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to answer; None leaves the choice to the server.

    `reasoning` is the effort, one of `chat.requirements.EFFORTS`; `schema` is a JSON schema that the answer has to
    match; `tool_choice` is `auto`, `none`, `required` or the name of a tool, for the first turn after a prompt.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    reasoning: str | None = None
    schema: Mapping[str, Any] | None = None
    tool_choice: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """The request of one turn. In the last turn the model sees the tools but may not use them.

    Only in the first turn the user's choice of a tool holds: a model that always has to call one never answers.

    `messages` are those of `/v1/chat/completions`, without the system message.
    """

    model: ServedModel
    system: str
    messages: Sequence[Message]
    tools: Toolbox
    is_last: bool
    sampling: Sampling
    is_first: bool = False

    @property
    def tool_choice(self) -> str:
        if self.is_last:
            return "none"
        return (self.sampling.tool_choice if self.is_first else None) or "auto"


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

    Leaving early, for example by cancellation, closes the stream, and vLLM then stops generating.
    """
    try:
        async with ended_if_stalled(model):
            with request_errors(model), silence_notice(report):
                stream = await client.post(path, body)
    except RouteNotServed as error:
        raise await explain(client, model, error) from error
    async with (
        stream,
        ended_if_stalled(model) as data_arrived,
        aclosing(_pieces(stream, model, report, data_arrived)) as pieces,
    ):
        yield pieces


def _is_json(stream: Any) -> bool:
    """Return whether a server has answered in one piece, although a stream was asked for."""
    kind: str = stream.response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "application/json"


async def _in_one_piece(stream: Any, model: ServedModel) -> AsyncIterator[Any]:
    """Yield an answer, or an error, that came in one piece; a stream with a wrong label as a stream."""
    with stream_errors(model):
        body: bytes = await stream.response.aread()
    try:
        yield json.loads(body)
    except (ValueError, RecursionError):
        for line in body.split(b"\n"):
            if line.startswith(b"data:") and line[5:].strip() not in (b"", b"[DONE]"):
                with stream_errors(model):
                    yield json.loads(line[5:])


async def _pieces(
    stream: AsyncIterator[Any], model: ServedModel, report: ChatReport, on_data: Callable[[], None]
) -> AsyncGenerator[Any]:
    """Yield the pieces of an answer; show a notice when one takes long. Raises `PiError` for an error among them."""
    if _is_json(stream):
        stream = _in_one_piece(stream, model)
    end = object()
    with silence_notice(report) as data_arrived:
        while True:
            with stream_errors(model):
                piece = await anext(stream, end)
            if piece is end:
                return
            data_arrived()
            on_data()
            if (reason := loose.error_in(piece)) is not None:
                raise answer_failed(model, reason)
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

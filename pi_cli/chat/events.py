"""What happens in a conversation, in order. The view draws these events; tests collect them in a list."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of the model's reasoning, as received: control characters are still in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, as received: control characters are still in it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool. `arguments` is the JSON text it wrote, which may be malformed."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result that is sent back to the model; `failed` if the call was invalid or not allowed."""

    id: str
    name: str
    output: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """The end of an answer, with its cost over all turns; `seconds` counts only the time the model was generating.

    `prompt_tokens` is the prompt length of the last turn: how full the model's context is. Both counts are None if the
    server does not report usage.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """One line of information that is neither model output nor an error."""

    text: str


ChatEvent = Thinking | Text | ToolCall | ToolResult | Usage | Notice
ChatReport = Callable[[ChatEvent], None]

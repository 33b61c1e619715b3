"""What happens in a conversation, in the order it happens. The view draws these; tests collect them in a list."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thinking:
    """A piece of what the model thinks, as it came: any control characters are still in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer, as it came: any control characters are still in it."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model wants a tool used. `arguments` is the JSON it wrote, which may be broken."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told about its call; `failed` when it asked for something it cannot have."""

    id: str
    name: str
    output: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """The end of an answer, and what it took over all its turns; `seconds` are those in which the model spoke.

    `prompt_tokens` counts what the last turn was given: how full the model's context is. A server that does not count
    leaves both numbers None.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Notice:
    """One line worth knowing that is neither the model's words nor an error."""

    text: str


ChatEvent = Thinking | Text | ToolCall | ToolResult | Usage | Notice
Report = Callable[[ChatEvent], None]

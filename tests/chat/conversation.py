"""Ask a model server and record everything that happens."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi_cli.chat import tools
from pi_cli.chat.agent import Conversation
from pi_cli.chat.client import ServedModel, open_client
from pi_cli.chat.events import ChatEvent, ChatReport, Notice, Text, Thinking, ToolCall, ToolResult
from pi_cli.chat.turn import Message
from pi_cli.errors import PiError

from .server import Reply, Request, serving

KEY = "the-pods-own-key"


@dataclass(frozen=True)
class Outcome:
    events: list[ChatEvent]
    messages: list[Message]
    requests: list[Request]
    error: PiError | None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def thinking(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Thinking))

    @property
    def calls(self) -> list[ToolCall]:
        return [event for event in self.events if isinstance(event, ToolCall)]

    @property
    def results(self) -> list[ToolResult]:
        return [event for event in self.events if isinstance(event, ToolResult)]

    @property
    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]


def begin(cwd: Path, report: ChatReport, **options: Any) -> Conversation:
    """Start a conversation with `qwen`; `use_tools=False` for one without tools."""
    box = tools.toolbox(cwd) if options.pop("use_tools", True) else {}
    model = options.pop("model", ServedModel("qwen"))
    return Conversation(model, cwd, report, box, **options)


def ask(prompt: str, *replies: Reply, cwd: Path, **options: Any) -> Outcome:
    """Ask, with the real client, a server that sends these replies, one for each request."""
    events: list[ChatEvent] = []
    conversation = begin(cwd, events.append, **options)

    async def talk() -> Outcome:
        error: PiError | None = None
        async with serving(*replies) as model, open_client(model.transport(), api_key=KEY) as client:
            try:
                await conversation.ask(client, prompt)
            except PiError as raised:
                error = raised
        return Outcome(events, list(conversation.messages), model.requests, error)

    return asyncio.run(talk())

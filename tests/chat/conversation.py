"""Hold a conversation with a model server and keep everything that was said."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi_cli.chat import agent
from pi_cli.chat.client import open_client
from pi_cli.chat.events import ChatEvent, Notice, Text, Thinking, ToolCall, ToolResult
from pi_cli.chat.stream import Message
from pi_cli.errors import PiError

from .server import Reply, Request, serving

KEY = "the-pods-own-key"


@dataclass(frozen=True)
class Conversation:
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


def ask(prompt: str, *replies: Reply, cwd: Path, **options: Any) -> Conversation:
    """Ask a server that gives these replies, one for each request, with the real client."""
    events: list[ChatEvent] = []
    messages: list[Message] = []

    async def talk() -> Conversation:
        error: PiError | None = None
        async with serving(*replies) as model, open_client(model.transport(), api_key=KEY) as client:
            try:
                await agent.answer(
                    prompt, client=client, model="qwen", cwd=cwd, report=events.append, messages=messages, **options
                )
            except PiError as raised:
                error = raised
        return Conversation(events, messages, model.requests, error)

    return asyncio.run(talk())

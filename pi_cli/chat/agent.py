"""The conversation: the model speaks, uses tools, gets their results, and speaks again, until it has answered."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pi_cli.chat import completions, room
from pi_cli.chat.client import Served, TooLong, ToolsNotServed
from pi_cli.chat.events import Notice, Report, Usage
from pi_cli.chat.tools import Toolbox, use
from pi_cli.chat.turn import Message, Request, Sampling, TakeTurn, Turn

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

MAX_TURNS = 12  # for one prompt
MAX_CALLS = 32  # in one turn
TOO_MANY = f"error: only {MAX_CALLS} calls are answered at once; ask again for this one"
INTERRUPTED = "(interrupted)"
GREETING = "You are a helpful assistant in a terminal."


async def _unknown() -> None:
    return None


@dataclass(slots=True)
class Conversation:
    """What is said between the user and a model. `messages` is fit for JSON, and may be an earlier conversation's.

    `system` stands in place of our own first words to the model. `tool_parser` finds out which tool-call parser a model
    should have been started with; it is asked only where there is none.
    """

    model: Served
    cwd: Path
    report: Report
    tools: Toolbox
    take_turn: TakeTurn = completions.take_turn
    messages: list[Message] = field(default_factory=list)
    system: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    tool_parser: Callable[[], Awaitable[str | None]] = _unknown

    async def ask(self, client: "Client", prompt: str) -> None:
        """Ask the model and report its answer as it streams in, letting it use the tools until it is done.

        `messages` grow as it goes: what was said before a failure or Ctrl+C is kept.
        """
        turns: list[Turn] = []
        asked_at = len(self.messages)
        self.messages.append({"role": "user", "content": prompt})
        try:
            await self._answer(client, turns)
        except TooLong:
            del self.messages[asked_at:]  # with it, every later question would be too long as well
            raise
        except BaseException:
            self._break_off(asked_at, turns)
            raise
        conclude(turns, self.report)

    async def _answer(self, client: "Client", turns: list[Turn]) -> None:
        while not turns or turns[-1].calls:
            is_last = len(turns) + 1 == MAX_TURNS
            if is_last:
                self.report(Notice(f"{len(turns)} turns with tools are enough, asking for the answer now"))
            turn = Turn(self.report)
            turns.append(turn)
            while not await self._take(client, turn, is_last=is_last):
                pass
            if is_last:
                turn.drafts.clear()
            self.messages += await replies(turn, self.tools, self.report)

    async def _take(self, client: "Client", turn: Turn, *, is_last: bool) -> bool:
        """Let the model speak once. Where it cannot as it was asked, make that easier, and return False."""
        system = introduction(self.cwd, self.tools, self.system)
        request = Request(self.model, system, self.messages, self.tools, is_last, self.sampling)
        try:
            await self.take_turn(client, request, turn)
        except ToolsNotServed as error:
            if not self.tools:
                raise
            hint = f"`--vllm … --enable-auto-tool-choice --tool-call-parser {await self.tool_parser() or 'PARSER'}`"
            self.report(Notice(f"{error.message}, so it answers without looking at files; start it with {hint}"))
            self.tools = {}
            return False
        except TooLong:
            if not room.make(self.messages):
                raise
            self.report(Notice("the model's context has no room for all that the tools have said, so it is cut"))
            return False
        return True

    def _break_off(self, asked_at: int, turns: Sequence[Turn]) -> None:
        """Leave messages that a later question can follow: servers want question and answer to alternate."""
        text = turns[-1].text if turns else ""
        if len(self.messages) == asked_at + 1 and not text.strip():
            self.messages.pop()
        elif self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": text if text.strip() else INTERRUPTED})


def introduction(cwd: Path, tools: Toolbox, greeting: str | None = None) -> str:
    """Return what the model is told before all else: who it is, where it is, and what it can do."""
    text = f"{GREETING if greeting is None else greeting} The working directory is {cwd}."
    if tools:
        text += (
            f" You can look at files on this machine, and only look, with the tools {', '.join(tools)}."
            " Use them when the question is about files; give them absolute paths."
        )
    return text.strip()


async def replies(turn: Turn, tools: Toolbox, report: Report) -> list[Message]:
    """Do what the model asked for in one turn, all at once; return what it said and what it gets back."""
    if not turn.calls:
        return [{"role": "assistant", "content": turn.text}]
    wanted, beyond = turn.calls[:MAX_CALLS], turn.calls[MAX_CALLS:]
    for call in wanted:
        report(call)
    if beyond:
        report(Notice(f"the model wants {len(turn.calls)} things at once, doing the first {MAX_CALLS}"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use(tools, call)) for call in wanted]
    results = [task.result() for task in tasks]
    for result in results:
        report(result)
    answers = [(result.id, result.output) for result in results] + [(call.id, TOO_MANY) for call in beyond]
    return [spoken(turn), *({"role": "tool", "tool_call_id": id, "content": text} for id, text in answers)]


def spoken(turn: Turn) -> Message:
    """Return a turn with tool calls as a message. Models that think between calls want their thoughts back."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": valid(call.arguments)}}
        for call in turn.calls
    ]
    thoughts = {"reasoning": turn.thinking} if turn.thinking else {}
    return {"role": "assistant", "content": turn.text or None, **thoughts, "tool_calls": calls}


def valid(arguments: str) -> str:
    """Return the arguments if they are a JSON object, else an empty one: servers parse them and fail on the rest."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"


def conclude(turns: Sequence[Turn], report: Report) -> None:
    last = turns[-1]
    if last.finish == "length":
        report(Notice("the answer is cut off: the limit of tokens was reached"))
    elif not last.text.strip():
        report(Notice("the model ended without an answer"))
    counted = [turn.completion_tokens for turn in turns if turn.completion_tokens is not None]
    completion = sum(counted) if len(counted) == len(turns) else None
    report(Usage(last.prompt_tokens, completion, sum(turn.seconds for turn in turns)))

"""The conversation: the model takes turns and uses tools until it has answered."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pi_cli import waits
from pi_cli.chat import completions, context, loose
from pi_cli.chat.client import ServedModel, TooLong, ToolsNotServed
from pi_cli.chat.events import ChatReport, Notice, Usage
from pi_cli.chat.images import Image, with_images
from pi_cli.chat.tools import Toolbox, use
from pi_cli.chat.turn import Message, Request, Sampling, TakeTurn, Turn
from pi_cli.errors import NoAnswer
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

MAX_TURNS = 12  # for one prompt
MAX_CALLS = 32  # in one turn
TOO_MANY_CALLS = f"error: at most {MAX_CALLS} calls run at once; repeat this call"
ENDED_BY_THE_SERVER = ("abort", "error", "cancelled", "content_filter")
INTERRUPTED = "(interrupted)"
DEFAULT_SYSTEM = "You are a helpful assistant in a terminal."


async def _no_parser() -> None:
    return None


@dataclass(slots=True)
class Conversation:
    """The messages between the user and a model. `messages` is plain JSON, and may continue an earlier conversation.

    `system` replaces the default system prompt; `reach` is a sentence in it about what the tools can read.
    `tool_parser` looks up the tool-call parser for the model; it is called only if the server runs without one.
    """

    model: ServedModel
    cwd: Path
    report: ChatReport
    tools: Toolbox
    take_turn: TakeTurn = completions.take_turn
    messages: list[Message] = field(default_factory=list)
    system: str | None = None
    reach: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    tool_parser: Callable[[], Awaitable[str | None]] = _no_parser

    async def ask(self, client: "Client", prompt: str, images: Sequence[Image] = ()) -> None:
        """Ask the model and report its answer as it streams in; it may use the tools until it has answered.

        `messages` are updated along the way: whatever arrived before a failure or Ctrl+C is kept.
        """
        turns: list[Turn] = []
        asked_at = len(self.messages)
        self.messages.append({"role": "user", "content": with_images(prompt, images)})
        try:
            await self._answer(client, turns)
        except TooLong:
            del self.messages[asked_at:]  # else every later question would be too long as well
            raise
        except BaseException:
            self._close_messages(asked_at, turns)
            raise
        report_end(turns, self.report)
        if reason := _why_no_answer(turns[-1]):
            hint = _hint_without_answer(self.model, turns[-1])
            raise NoAnswer(f"`{self.model.name}` gave no answer: {reason}", hint=hint)

    async def _answer(self, client: "Client", turns: list[Turn]) -> None:
        while not turns or turns[-1].calls:
            is_last = len(turns) + 1 == MAX_TURNS
            if is_last:
                self.report(Notice(f"{len(turns)} turns with tools, which is the limit; asking for the answer now"))
            turn = Turn(self.report)
            turns.append(turn)
            while not await self._take_turn(client, turn, is_last=is_last):
                pass
            if is_last:
                turn.drafts.clear()
            for draft in turn.drafts:
                draft.name, draft.arguments = loose.tool_name(draft.name, self.tools), loose.arguments(draft.arguments)
            self.messages += await run_calls(turn, self.tools, self.report)

    async def _take_turn(self, client: "Client", turn: Turn, *, is_last: bool) -> bool:
        """Take one turn. If the server cannot serve the request, simplify it and return False."""
        system = system_prompt(self.cwd, self.tools, self.system, self.reach)
        is_first = self.messages[-1]["role"] == "user"
        request = Request(self.model, system, self.messages, self.tools, is_last, self.sampling, is_first)
        try:
            with waits.on("waiting for the first token") as turn.begin:
                await self.take_turn(client, request, turn)
        except ToolsNotServed as error:
            if not self.tools:
                raise
            self.report(Notice(f"{error.message}, so it cannot look at files"))
            self.tools = {}
            await self._take_turn_and_name_parser(client, turn, is_last=is_last)
        except TooLong:
            if not context.truncate_tool_results(self.messages):
                raise
            self.report(Notice("the model's context is full: tool results were truncated"))
            return False
        return True

    async def _take_turn_and_name_parser(self, client: "Client", turn: Turn, *, is_last: bool) -> None:
        """Take a turn without tools, then say how to enable them; the answer does not wait for what the Hub knows."""
        finding = asyncio.ensure_future(self.tool_parser())
        try:
            while not await self._take_turn(client, turn, is_last=is_last):
                pass
            parser = finding.result() if finding.done() else None
        finally:
            finding.cancel()
        remedy = "start it with `--vllm … --enable-auto-tool-choice --tool-call-parser {parser}`"
        self.report(Notice(f"to enable tools, {fill(remedy, parser=parser or 'PARSER')}"))

    def _close_messages(self, asked_at: int, turns: Sequence[Turn]) -> None:
        """Leave messages that a later question can follow: servers want user and assistant to alternate."""
        text = turns[-1].text if turns else ""
        if len(self.messages) == asked_at + 1 and not text.strip():
            self.messages.pop()
        elif self.messages[-1]["role"] != "assistant":
            self.messages.append({"role": "assistant", "content": text if text.strip() else INTERRUPTED})


def system_prompt(cwd: Path, tools: Toolbox, system: str | None = None, reach: str = "") -> str:
    """Return the system prompt: the user's or the default one, the working directory, and the tools."""
    text = f"{DEFAULT_SYSTEM if system is None else system} The working directory is {cwd}."
    if tools:
        text += (
            f" You have read-only access to the files on this machine with the tools {', '.join(tools)}."
            f"{' ' if reach else ''}{reach}"
            " Use them when the question is about files; give them absolute paths."
        )
    return text.strip()


async def run_calls(turn: Turn, tools: Toolbox, report: ChatReport) -> list[Message]:
    """Run the tool calls of one turn, all at once; return the messages to add: the model's own and the results."""
    if not turn.calls:
        return [{"role": "assistant", "content": turn.text}]
    calls, refused = turn.calls[:MAX_CALLS], turn.calls[MAX_CALLS:]
    for call in calls:
        report(call)
    if refused:
        report(Notice(f"the model made {len(turn.calls)} tool calls at once; only the first {MAX_CALLS} are run"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use(tools, call)) for call in calls]
    results = [task.result() for task in tasks]
    for result in results:
        report(result)
    outputs = [(result.id, result.output) for result in results] + [(call.id, TOO_MANY_CALLS) for call in refused]
    return [assistant_message(turn), *({"role": "tool", "tool_call_id": id, "content": text} for id, text in outputs)]


def assistant_message(turn: Turn) -> Message:
    """Return a turn with tool calls as a message. Models that reason between calls want their reasoning sent back."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": json_object(call.arguments)}}
        for call in turn.calls
    ]
    reasoning = {"reasoning": turn.thinking} if turn.thinking else {}
    return {"role": "assistant", "content": turn.text or None, **reasoning, "tool_calls": calls}


def json_object(arguments: str) -> str:
    """Return the arguments if they are a JSON object, else `{}`: servers parse them, and fail on anything else."""
    try:
        return arguments if isinstance(json.loads(arguments), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"


def _why_no_answer(turn: Turn) -> str:
    """Return why the last turn of a model is not an answer; the empty string if it is one."""
    match turn.finish:
        case "abort" | "error" | "cancelled":
            return "its server aborted it"
        case "content_filter":
            return "its server filtered it"
    if turn.text.strip():
        return ""
    if turn.finish == "length":
        return "the token limit was reached before there was one"
    return "it only reasoned" if turn.thinking.strip() else "it ended without text"


def _hint_without_answer(model: ServedModel, turn: Turn) -> str:
    if turn.finish == "length":
        return "allow more with `--max-tokens`, or leave it out"
    if turn.thinking.strip() and turn.finish not in ENDED_BY_THE_SERVER:
        return "ask again; if it is always so, its `--reasoning-parser` is the wrong one, or is needed and missing"
    return model.hint("ask again, or see why with `{logs}`")


def report_end(turns: Sequence[Turn], report: ChatReport) -> None:
    last = turns[-1]
    if last.finish == "length" and last.text.strip():
        report(Notice("the answer was cut off at the token limit"))
    counts = [turn.completion_tokens for turn in turns if turn.completion_tokens is not None]
    completion_tokens = sum(counts) if len(counts) == len(turns) else None
    report(Usage(last.prompt_tokens, completion_tokens, sum(turn.seconds for turn in turns)))

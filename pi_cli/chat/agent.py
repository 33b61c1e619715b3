"""The conversation: the model speaks, uses tools, gets their results, and speaks again, until it has answered."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi_cli.chat.client import ToolsNotServed
from pi_cli.chat.events import Notice, Report, Usage
from pi_cli.chat.stream import Message, Turn, take_turn
from pi_cli.chat.tools import Toolbox, toolbox, use

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_TURNS = 12
MAX_CALLS = 32  # in one turn
TOO_MANY = f"error: only {MAX_CALLS} calls are answered at once; ask again for this one"


async def answer(
    prompt: str,
    *,
    client: "AsyncOpenAI",
    model: str,
    cwd: Path,
    report: Report,
    messages: list[Message] | None = None,
    use_tools: bool = True,
) -> list[Message]:
    """Ask a model and stream its answer, letting it use the tools in `cwd` until it is done.

    Returns the conversation, in the API's own words and fit for JSON. Given the `messages` of an earlier one, it goes
    on with that and adds to it as it goes, so that what was said before a failure or Ctrl+C is kept.
    """
    said = [] if messages is None else messages
    said.append({"role": "user", "content": prompt})
    tools = toolbox(cwd) if use_tools else {}
    turns: list[Turn] = []
    while not turns or turns[-1].calls:
        is_last = len(turns) + 1 == MAX_TURNS
        if is_last:
            report(Notice(f"{len(turns)} turns with tools are enough, asking for the answer now"))
        try:
            turn = await take_turn(
                client, model=model, messages=[introduction(cwd, tools), *said], report=report, **offers(tools, is_last)
            )
        except ToolsNotServed as error:
            if not tools:
                raise
            report(Notice(f"{error.message}, so it answers without looking at files; {error.hint}"))
            tools = {}
            continue
        turns.append(turn)
        if is_last:
            turn.drafts.clear()
        said += await replies(turn, tools, report)
    conclude(turns, report)
    return said


def introduction(cwd: Path, tools: Toolbox) -> Message:
    text = f"You are a helpful assistant in a terminal. The working directory is {cwd}."
    if tools:
        text += (
            f" You can look at files on this machine, and only look, with the tools {', '.join(tools)}."
            " Use them when the question is about files; give them absolute paths."
        )
    return {"role": "system", "content": text}


def offers(tools: Toolbox, is_last: bool) -> dict[str, Any]:
    """Return the request's options about tools; in the last turn the model sees them, but may not use them."""
    if not tools:
        return {}
    return {"tools": [tool.offer() for tool in tools.values()], "tool_choice": "none" if is_last else "auto"}


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
        report(Notice("the answer is cut off: the model's limit of tokens was reached"))
    elif not last.text.strip():
        report(Notice("the model ended without an answer"))
    if last.completion_tokens:
        completion = sum(turn.completion_tokens for turn in turns)
        report(Usage(last.prompt_tokens, completion, sum(turn.seconds for turn in turns)))

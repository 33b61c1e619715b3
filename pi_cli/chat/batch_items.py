"""The requests of a batch: one per line of a JSONL file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pi_cli.chat.requirements import EFFORTS
from pi_cli.chat.turn import Message, Sampling
from pi_cli.errors import BadUsage

MAX_BATCH = 1_000_000_000  # bytes, all of which are held in memory
SHOWN = 60  # characters of a line in an error
FORM = 'a line is a JSON text, or an object: {"prompt": "…"} or {"messages": […]}, optionally with "id" and "system"'
# Of an object, and of the `body` of a line in the form of OpenAI's batches.
KEYS = frozenset({
    "prompt", "messages", "id", "custom_id", "system", "temperature", "max_tokens", "max_completion_tokens",
    "reasoning", "reasoning_effort", "schema", "response_format",
})  # fmt: skip
IGNORED = frozenset({"model", "stream", "stream_options", "method", "url"})  # pi sets them itself


@dataclass(frozen=True, slots=True)
class Item:
    """A request. `number` is that of its line, from 1; `id` is what the user calls it."""

    number: int
    id: str | None
    messages: tuple[Message, ...]
    system: str | None
    sampling: Sampling


def read(text: str, default: Sampling, system: str | None) -> list[Item]:
    """Return the requests of a JSONL text; what a line does not say is taken from the command.

    Raises `BadUsage` with the number of the first line that is not a request. Blank lines are skipped.
    """
    items = list(_items(text, default, system))
    if not items:
        raise BadUsage("the batch has no requests", hint=FORM)
    seen: dict[str, int] = {}
    for item in items:
        if item.id is not None and seen.setdefault(item.id, item.number) != item.number:
            raise BadUsage(
                f"lines {seen[item.id]} and {item.number} have the same id `{item.id[:SHOWN]}`",
                hint="give each request an id of its own, or none",
            )
    return items


def _items(text: str, default: Sampling, system: str | None) -> Iterator[Item]:
    # Not `splitlines`, which also ends lines at characters that JSON texts may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _item(number, line, default, system)


def _item(number: int, line: str, default: Sampling, system: str | None) -> Item:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(number, f"it is not JSON: {line.strip()[:SHOWN]}") from error
    if isinstance(data, str):
        return Item(number, None, ({"role": "user", "content": data},), system, default)
    if not isinstance(data, dict):
        raise _wrong(number, "it is neither a text nor an object")
    if isinstance(body := data.get("body"), dict):
        data = {**{key: value for key, value in data.items() if key != "body"}, **body}
    for key in data:
        if key not in KEYS | IGNORED:
            raise _wrong(number, f"pi does not know `{str(key)[:SHOWN]}`")
    own_system = _typed(number, data, "system", str)
    id = _typed(number, data, "id", str, int)
    id = _typed(number, data, "custom_id", str) if id is None else id
    return Item(
        number,
        None if id is None else str(id),
        _messages(number, data),
        system if own_system is None else own_system,
        _sampling(number, data, default),
    )


def _messages(number: int, data: Mapping[str, Any]) -> tuple[Message, ...]:
    prompt, messages = data.get("prompt"), data.get("messages")
    if isinstance(prompt, str) and messages is None:
        return ({"role": "user", "content": prompt},)
    if prompt is None and isinstance(messages, list) and messages:
        if all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages):
            return tuple(messages)
        raise _wrong(number, 'each of its `messages` needs a "role"')
    raise _wrong(number, "it needs either `prompt`, a text, or `messages`, a list")


def _sampling(number: int, data: Mapping[str, Any], default: Sampling) -> Sampling:
    temperature = _typed(number, data, "temperature", int, float)
    tokens = _typed(number, data, "max_tokens", int)
    tokens = _typed(number, data, "max_completion_tokens", int) if tokens is None else tokens
    effort = _typed(number, data, "reasoning", str) or _typed(number, data, "reasoning_effort", str)
    if effort is not None and effort not in EFFORTS:
        raise _wrong(number, f"`reasoning` is not one of {', '.join(EFFORTS)}")
    return Sampling(
        default.temperature if temperature is None else float(temperature),
        default.max_tokens if tokens is None else tokens,
        effort or default.reasoning,
        _schema(number, data) or default.schema,
    )


def _schema(number: int, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    own: Mapping[str, Any] | None = _typed(number, data, "schema", dict)
    form = _typed(number, data, "response_format", dict)
    if form is None:
        return own
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "text"}:
            return own
    raise _wrong(number, "of `response_format` pi knows only the type `json_schema`")


def _typed(number: int, data: Mapping[str, Any], key: str, *types: type) -> Any:
    value = data.get(key)
    if value is None or (isinstance(value, types) and not isinstance(value, bool)):
        return value
    raise _wrong(number, f"`{key}` has the wrong type")


def _wrong(number: int, reason: str) -> BadUsage:
    return BadUsage(f"line {number} of the batch cannot be asked: {reason}", hint=FORM)

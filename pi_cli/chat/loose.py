"""What servers and models send that is not quite the API, and is known to mean something."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

# gpt-oss: `ls<|channel|>commentary` (vLLM #32587), Kimi: `functions.ls:0`; others write the namespace too.
CHANNEL = re.compile(r"<\|.*", re.DOTALL)
NAMESPACE = re.compile(r"\A(?:functions?|tools?|default_api)[.:/]")
NUMBER = re.compile(r":\d{1,4}\Z")
MAX_ENCODINGS = 3  # of arguments as JSON in JSON


def tool_name(name: str, tools: Collection[str]) -> str:
    """Return the tool that is meant; the name unchanged if it is none.

    >>> [tool_name(name, {"ls", "rg"}) for name in ("ls<|channel|>commentary", "functions.rg:0", " LS", "cat")]
    ['ls', 'rg', 'ls', 'cat']
    """
    meant = NUMBER.sub("", NAMESPACE.sub("", CHANNEL.sub("", name).strip())).strip()
    if meant in tools:
        return meant
    return next((tool for tool in tools if tool == meant.lower()), name)


def arguments(text: str) -> str:
    """Return arguments as a JSON object, if they are one that was encoded once more.

    >>> arguments(json.dumps(json.dumps({"path": "/tmp"})))
    '{"path": "/tmp"}'
    """
    inner: Any = text
    for _ in range(MAX_ENCODINGS):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            return text
        if isinstance(inner, dict):
            return text if text.lstrip().startswith("{") else json.dumps(inner)
        if not isinstance(inner, str):
            return text
    return text


def error_in(data: Any) -> str | None:
    """Return the message of an error that was sent in place of an answer; None if it is not one.

    >>> error_in({"object": "error", "message": "no"}), error_in({"error": {"message": "no"}})
    ('no', 'no')
    """
    match data:
        case {"error": {"message": str(message)}} | {"object": "error", "message": str(message)}:  # vLLM before 0.10
            return message
        case {"error": str(message)} | {"detail": str(message)} if message:
            return message
        case {"error": {**error}} if error:
            return json.dumps(error)
    return None


def text_in(content: Any) -> str:
    """Return a text that may be in parts: `[{"type": "text", "text": "…"}]`."""
    if isinstance(content, list):
        return "".join(text_in(part.get("text")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""

"""Room in a model's context, made by cutting what tools have said: it is most of a long conversation."""

from collections.abc import Sequence

from pi_cli.chat.turn import Message

SHORTEST = 1000  # characters that are left of what a tool has said


def make(messages: Sequence[Message]) -> bool:
    """Cut the longest of what tools have said to a quarter, in place; tell whether that made any room."""
    said = [message for message in messages if message["role"] == "tool"]
    longest = max((len(message["content"]) for message in said), default=0)
    limit = max(longest // 4, SHORTEST)
    too_long = [message for message in said if len(message["content"]) > limit * 2]
    for message in too_long:
        message["content"] = cut(message["content"], limit)
    return bool(too_long)


def cut(text: str, limit: int) -> str:
    """Keep the first lines of a text, and tell the model how to get the rest.

    >>> cut("one\\ntwo\\nthree\\n", 9)
    'one\\ntwo\\n[only the first 2 lines are left, for want of room: ask for less at once]'
    """
    kept = text[:limit]
    kept = kept[: kept.rfind("\n")] if "\n" in kept else kept
    count = len(kept.splitlines())
    lines = f"{count} line{'s' if count > 1 else ''}"
    return f"{kept}\n[only the first {lines} are left, for want of room: ask for less at once]"

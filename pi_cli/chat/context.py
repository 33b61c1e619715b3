"""Free space in a model's context by truncating tool results: they are most of a long conversation."""

from collections.abc import Sequence

from pi_cli.chat.turn import Message

MIN_RESULT_LENGTH = 1000  # characters that are always kept of a tool result


def truncate_tool_results(messages: Sequence[Message]) -> bool:
    """Truncate the longest tool results to a quarter, in place; return whether anything got shorter."""
    results = [message for message in messages if message["role"] == "tool"]
    longest = max((len(message["content"]) for message in results), default=0)
    limit = max(longest // 4, MIN_RESULT_LENGTH)
    too_long = [message for message in results if len(message["content"]) > limit * 2]
    for message in too_long:
        message["content"] = first_lines(message["content"], limit)
    return bool(too_long)


def first_lines(text: str, limit: int) -> str:
    """Keep the first lines of a text, at most `limit` characters, and add a note for the model on how to get the rest.

    >>> first_lines("one\\ntwo\\nthree\\n", 9)
    'one\\ntwo\\n[truncated to the first 2 lines to fit the context; request less at once]'
    """
    kept = text[:limit]
    kept = kept[: kept.rfind("\n")] if "\n" in kept else kept
    count = len(kept.splitlines())
    lines = "line" if count <= 1 else f"{count} lines"
    return f"{kept}\n[truncated to the first {lines} to fit the context; request less at once]"

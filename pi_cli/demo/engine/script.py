"""The answers of the scripted model: a fixed table, so that every answer is predictable.

An answer depends only on the last user message and on the number of tool results after it.
"""

import json
import re
from typing import Any, NamedTuple

Json = dict[str, Any]


class Call(NamedTuple):
    """A tool call with one argument; a value that is not copied from the user's message is a single token."""

    tool: str
    argument: str
    value: str
    is_copied: bool = True

    @property
    def json(self) -> str:
        return '{"' + self.argument + '": "' + _escaped(self.value) + '"}'


class ScriptedTurn(NamedTuple):
    """One turn: reasoning, then either an answer or tool calls."""

    thinking: str
    answer: str = ""
    calls: tuple[Call, ...] = ()


MARKDOWN = """# A plan

1. Read the **README**.
2. Run `make test`.

```python
def answer() -> int:
    return 42
```

> Simulated, but well formatted."""

ANSWERS = {
    "What is 2+2?": ScriptedTurn("Simple arithmetic: two plus two is four.", "4"),
    "What is the capital of France?": ScriptedTurn("Geography: France is governed from Paris.", "Paris"),
    "Who are you?": ScriptedTurn(
        "A question about me.", "I am a simulated model: a script that plays the part of one. No GPU was involved."
    ),
    "Hello": ScriptedTurn("A greeting wants a greeting.", "Hello! Ask me to list the files in a folder, for example."),
    "Count to 100": ScriptedTurn("A long one: every number in turn.", ", ".join(map(str, range(1, 101)))),
    "Show markdown": ScriptedTurn("Headings, a list and some code will do.", MARKDOWN),
}
NO_ANSWER = ScriptedTurn("None of the phrases of my script.", "Sorry, that is beyond me.")

# The start of the user's line, the reasoning, the tool, its argument, and the reply to its result.
TOOL_PROMPTS = {
    "List the files in ": ("Listing a directory is a job for", "ls", "path", "Listed. The first entry in it is"),
    "Read ": ("Reading a file is a job for", "read", "file_path", "Done. The file starts with this line:"),
    "Find ": ("Finding files is a job for", "glob", "pattern", "Found. The first file that matches is"),
    "Search ": ("Searching in files is a job for", "rg", "args", "Searched. The first line that matches is"),
    "Survey ": ("Surveying it is a job for both", "ls", "path", "Surveyed. The last tool answered first with"),
}


def next_turn(messages: list[Json]) -> ScriptedTurn:
    """Return the next turn of the conversation.

    >>> next_turn([{"role": "user", "content": "List the files in /tmp"}]).calls[0].json
    '{"path": "/tmp"}'
    """
    last = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    text = text_of(messages[last]) if last >= 0 else ""
    results = [text_of(message) for message in messages[last + 1 :] if message.get("role") == "tool"]
    for line in text.splitlines():
        for phrase, turn in ANSWERS.items():
            if line.strip().startswith(phrase):
                return turn
        for phrase in TOOL_PROMPTS:
            if line.strip().startswith(phrase):
                return _use_tool(phrase, line.strip().removeprefix(phrase), results)
    return NO_ANSWER


def follow_schema(turn: ScriptedTurn, schema: Json) -> ScriptedTurn:
    """Return the turn with an answer that is valid for a JSON schema.

    >>> follow_schema(NO_ANSWER, {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}}).answer
    '{"a": "x"}'
    """
    return ScriptedTurn(turn.thinking, json.dumps(_instance(schema)))


def _instance(schema: Json) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _instance(property) for name, property in schema.get("properties", {}).items()}
    return {"boolean": True, "integer": 1, "number": 1.5, "array": []}.get(schema.get("type", ""), "text")


def text_of(message: Json) -> str:
    """Return a message's text, whether it is plain or in parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def _use_tool(phrase: str, rest: str, results: list[str]) -> ScriptedTurn:
    thinking, tool, argument, reply = TOOL_PROMPTS[phrase]
    value, _, follow_up = rest.partition(" and ")
    value = value.strip().strip("`\"'").strip()
    if not results:
        calls = [Call(tool, argument, value)]
        if phrase == "Survey ":
            calls.append(Call("rg", "args", "TODO", is_copied=False))
        tools = " and ".join(call.tool for call in calls)
        thinking += f" {tools}." if len(calls) > 1 else f" the {tool} tool."
        return ScriptedTurn(thinking, calls=tuple(calls))
    if follow_up.startswith("read"):
        if len(results) == 1:
            return ScriptedTurn(
                "The first match is worth reading.", calls=(Call("read", "file_path", _first_path(results[0])),)
            )
        tool, reply = "read", TOOL_PROMPTS["Read "][3]
    first = (results[-1].strip().splitlines() or [""])[0][:100]
    return ScriptedTurn(f"Now that {tool} has answered, it is time to reply.", f'{reply} "{_escaped(first)}"')


def _first_path(text: str) -> str:
    words = text.replace('"', " ").replace(",", " ").split()
    return next((word for word in words if "/" in word or "." in word), "")


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1].replace('\\"', "\\u0022")


def tokenize(text: str) -> list[str]:
    r"""Split text like a tokenizer: newlines alone, words with the space before them.

    >>> tokenize("\nTwo plus two.\n")
    ['\n', 'Two', ' plus', ' two.', '\n']
    """
    return re.findall(r"\n|[^\S\n]*[^\s]+|[^\S\n]+", text)

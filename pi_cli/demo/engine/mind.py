"""What the scripted model says: a fixed table of phrases, so that every answer can be predicted.

It looks at the last message of the user, at how many tools have answered since, and at nothing else.
"""

import json
import re
from typing import Any, NamedTuple

Json = dict[str, Any]


class Call(NamedTuple):
    """A wish to use a tool, which takes one argument; a value that is not copied from the user is one token."""

    tool: str
    argument: str
    value: str
    is_copied: bool = True

    @property
    def json(self) -> str:
        return '{"' + self.argument + '": "' + _escaped(self.value) + '"}'


class Thought(NamedTuple):
    """One turn: what goes on inside, then either words or tool calls."""

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
    "What is 2+2?": Thought("Simple arithmetic: two plus two is four.", "4"),
    "What is the capital of France?": Thought("Geography: France is governed from Paris.", "Paris"),
    "Who are you?": Thought(
        "A question about me.", "I am a simulated model: a script that plays the part of one. No GPU was involved."
    ),
    "Hello": Thought("A greeting wants a greeting.", "Hello! Ask me to list the files in a folder, for example."),
    "Count to 100": Thought("A long one: every number in turn.", ", ".join(str(number) for number in range(1, 101))),
    "Show markdown": Thought("Headings, a list and some code will do.", MARKDOWN),
}
BEYOND_ME = Thought("None of the phrases of my script.", "Sorry, that is beyond me.")

# What the user's line starts with, the tool for it, the tool's argument, and what to say to its answer.
ERRANDS = {
    "List the files in ": ("Listing a directory is a job for", "ls", "path", "Listed. The first entry in it is"),
    "Read ": ("Reading a file is a job for", "read", "file_path", "Done. The file starts with this line:"),
    "Find ": ("Finding files is a job for", "glob", "pattern", "Found. The first file that matches is"),
    "Search ": ("Searching in files is a job for", "rg", "args", "Searched. The first line that matches is"),
    "Survey ": ("Surveying it is a job for both", "ls", "path", "Surveyed. The last tool answered first with"),
}


def think(messages: list[Json]) -> Thought:
    """Return the next turn of the conversation.

    >>> think([{"role": "user", "content": "List the files in /tmp"}]).calls[0].json
    '{"path": "/tmp"}'
    """
    asked = max((i for i, message in enumerate(messages) if message.get("role") == "user"), default=-1)
    text = text_of(messages[asked]) if asked >= 0 else ""
    results = [text_of(message) for message in messages[asked + 1 :] if message.get("role") == "tool"]
    for line in text.splitlines():
        for phrase, thought in ANSWERS.items():
            if line.strip().startswith(phrase):
                return thought
        for phrase in ERRANDS:
            if line.strip().startswith(phrase):
                return _run_errand(phrase, line.strip().removeprefix(phrase), results)
    return BEYOND_ME


def follow(thought: Thought, schema: Json) -> Thought:
    """Answer with a value that follows a JSON schema, and is otherwise the first that comes to mind.

    >>> follow(BEYOND_ME, {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}}).answer
    '{"a": "x"}'
    """
    return Thought(thought.thinking, json.dumps(_instance(schema)))


def _instance(schema: Json) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _instance(each) for name, each in schema.get("properties", {}).items()}
    return {"boolean": True, "integer": 1, "number": 1.5, "array": []}.get(schema.get("type", ""), "text")


def text_of(message: Json) -> str:
    """Return a message's text, whether it is plain or in parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def _run_errand(phrase: str, rest: str, results: list[str]) -> Thought:
    thinking, tool, argument, reply = ERRANDS[phrase]
    value, _, wish = rest.partition(" and ")
    value = value.strip().strip("`\"'").strip()
    if not results:
        calls = [Call(tool, argument, value)]
        if phrase == "Survey ":
            calls.append(Call("rg", "args", "TODO", is_copied=False))
        tools = " and ".join(call.tool for call in calls)
        return Thought(f"{thinking} {tools}." if len(calls) > 1 else f"{thinking} the {tool} tool.", calls=tuple(calls))
    if wish.startswith("read"):
        if len(results) == 1:
            return Thought(
                "The first match is worth reading.", calls=(Call("read", "file_path", _first_path(results[0])),)
            )
        tool, reply = "read", ERRANDS["Read "][3]
    first = (results[-1].strip().splitlines() or [""])[0][:100]
    return Thought(f"Now that {tool} has answered, it is time to reply.", f'{reply} "{_escaped(first)}"')


def _first_path(text: str) -> str:
    words = text.replace('"', " ").replace(",", " ").split()
    return next((word for word in words if "/" in word or "." in word), "")


def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1].replace('\\"', "\\u0022")


def words(text: str) -> list[str]:
    r"""Cut text as a tokenizer would: newlines alone, words with the space before them.

    >>> words("\nTwo plus two.\n")
    ['\n', 'Two', ' plus', ' two.', '\n']
    """
    return re.findall(r"\n|[^\S\n]*[^\s]+|[^\S\n]+", text)

"""Hints: what to do next, with commands that can be pasted unchanged."""

import re
import shlex
from collections.abc import Mapping, Sequence

QUOTED = re.compile(r"`([^`]*)`")
WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
PLACEHOLDER = re.compile(r"\{(\w+)\}")

EXCERPT_WIDTH = 76  # columns: an excerpt is shown indented, and must not wrap

Value = str | int | float | Sequence[str]


def fill(template: str, **values: Value) -> str:
    """Fill values into a text; within backticks, quote each as a word of a shell command.

    A value stays one word, whatever it contains; a sequence becomes one word per item. Commands to paste are made
    here only, so no other code has to quote a value (`tests/test_hints.py`).

    >>> fill("stop it with `pi stop {name} --pod {pod}`", name="q; reboot", pod="dc1")
    "stop it with `pi stop 'q; reboot' --pod dc1`"
    >>> print(fill("delete them with `pi ssh {pod} 'rm -r {paths}'`", pod="dc1", paths=["/a b", "/c"]))
    delete them with `pi ssh dc1 'rm -r '"'"'/a b'"'"' /c'`
    """
    pieces, end = [], 0
    for quoted in QUOTED.finditer(template):
        pieces += [_prose(template[end : quoted.start()], values), f"`{_quoted(quoted[1], values)}`"]
        end = quoted.end()
    return "".join([*pieces, _prose(template[end:], values)])


def command(*argv: str) -> str:
    """Return a command line that a shell splits into the same arguments.

    >>> command("pi", "pods", "setup", "dc1", "ssh root@1.2.3.4")
    "pi pods setup dc1 'ssh root@1.2.3.4'"
    """
    return shlex.join(argv)


def excerpt(text: str, start: int, end: int) -> str:
    """Return the part of a text around a place in it, on one line, and a line that marks the place.

    >>> print(excerpt("ssh -9 root@h", 4, 6))
    ssh -9 root@h
        ^^
    """
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    begin = max(0, min(start - EXCERPT_WIDTH // 3, len(line) - EXCERPT_WIDTH))
    visible = line[begin : begin + EXCERPT_WIDTH]
    visible = ("…" + visible[1:] if begin else visible) + ("…" if begin + EXCERPT_WIDTH < len(line) else "")
    carets = min(max(end, start + 1), begin + EXCERPT_WIDTH) - start
    return f"{visible.rstrip()}\n{' ' * (start - begin)}{'^' * carets}"


def _prose(text: str, values: Mapping[str, Value]) -> str:
    return PLACEHOLDER.sub(lambda placeholder: " ".join(_items(values[placeholder[1]])), text)


def _quoted(text: str, values: Mapping[str, Value]) -> str:
    """Fill in the text between two backticks: a command, or a single word that is only mentioned."""
    words = WORD.findall(text)
    if len(words) == 1 and (only := PLACEHOLDER.fullmatch(words[0])):
        value = values[only[1]]
        return str(value) if isinstance(value, str | int | float) else command(*value)
    if len(words) == 1:
        return _prose(text, values)
    return " ".join(_word(word, values) for word in words)


def _word(word: str, values: Mapping[str, Value]) -> str:
    """Fill in one word of a command; the rest of the word stays as written unless a value needs quotes."""
    if only := PLACEHOLDER.fullmatch(word):
        return command(*_items(values[only[1]]))
    items = [item for name in PLACEHOLDER.findall(word) for item in _items(values[name])]
    if all(shlex.quote(item) == item for item in items):
        return _prose(word, values)
    [bare] = shlex.split(word)
    is_remote_command = " " in bare  # for a shell on the pod, as in `pi ssh dc1 'rm -r …'`
    join = command if is_remote_command else lambda *items: " ".join(items)
    return command(PLACEHOLDER.sub(lambda placeholder: join(*_items(values[placeholder[1]])), bare))


def _items(value: Value) -> list[str]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]

"""Hints: what to do next, with commands that can be pasted as they stand."""

import re
import shlex
from collections.abc import Mapping, Sequence

QUOTED = re.compile(r"`([^`]*)`")
WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
PLACEHOLDER = re.compile(r"\{(\w+)\}")

Value = str | int | float | Sequence[str]


def fill(template: str, **values: Value) -> str:
    """Fill values into a text. Within backticks they go into the words of a command, quoted as a shell wants them.

    A value stays one word, whatever is in it; a sequence becomes as many words as it has. This is the only place
    where words become a command to paste, so that none has to be quoted anywhere else.

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


def command(*words: str) -> str:
    """Write words as a command that a shell takes apart into the same words.

    >>> command("pi", "pods", "setup", "dc1", "ssh root@1.2.3.4")
    "pi pods setup dc1 'ssh root@1.2.3.4'"
    """
    return shlex.join(words)


def _prose(text: str, values: Mapping[str, Value]) -> str:
    return PLACEHOLDER.sub(lambda found: _shown(values[found[1]]), text)


def _shown(value: Value) -> str:
    return " ".join(value) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _quoted(text: str, values: Mapping[str, Value]) -> str:
    """Fill in what stands in backticks: a command, or a single word that is merely named."""
    words = WORD.findall(text)
    if len(words) == 1 and (only := PLACEHOLDER.fullmatch(words[0])):
        value = values[only[1]]
        return str(value) if isinstance(value, str | int | float) else command(*value)
    if len(words) == 1:
        return _prose(text, values)
    return " ".join(_word(word, values) for word in words)


def _word(word: str, values: Mapping[str, Value]) -> str:
    """Fill in one word of a command; what has no placeholder stays as it is written."""
    if not PLACEHOLDER.search(word):
        return word
    if only := PLACEHOLDER.fullmatch(word):
        return command(*_words(values[only[1]]))
    [bare] = shlex.split(word)
    is_command_itself = " " in bare  # of a shell on the pod, as in `pi ssh dc1 'rm -r …'`
    fill_in = command if is_command_itself else lambda *words: " ".join(words)
    return command(PLACEHOLDER.sub(lambda found: fill_in(*_words(values[found[1]])), bare))


def _words(value: Value) -> list[str]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [str(value)]

"""Hints: what to do next, with commands that can be pasted unchanged."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

QUOTED = re.compile(r"`([^`]*)`")
WORD = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")
PLACEHOLDER = re.compile(r"\{(\w+)\}")
SEPARATORS = re.compile(r"[\s._-]+")

SIMILAR = 0.7  # difflib's ratio of a typo in a short name: `gwen` and `qwen` have 0.75
MAX_NEAREST = 3

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


def nearest(typed: str, known: Iterable[str]) -> list[str]:
    """Return the known names that a misspelt or shortened one may mean, the likeliest first.

    >>> nearest("lab", ["dc1", "lab-2", "lab-3"]), nearest("Qwen_3", ["glm", "qwen3"]), nearest("x", ["dc1"])
    (['lab-2', 'lab-3'], ['qwen3'], [])
    """
    import difflib  # not at the top: few commands fail

    key = _letters(typed)
    matcher = difflib.SequenceMatcher(b=key)
    scores: dict[str, float] = {}
    for name in known if key else ():
        matcher.set_seq1(letters := _letters(name))
        is_begun = len(key) > 1 and letters.startswith(key)
        scores[name] = max(matcher.ratio(), SIMILAR if is_begun else 0.0)
    similar = [name for name, score in scores.items() if score >= SIMILAR]
    return sorted(similar, key=lambda name: -scores[name])[:MAX_NEAREST]


def did_you_mean(names: Sequence[str]) -> str:
    """Return the question whether one of some names was meant; no text without names.

    >>> did_you_mean(["lab-1", "lab-2", "lab-3"])
    'did you mean `lab-1`, `lab-2` or `lab-3`?'
    """
    return f"did you mean {one_of(names)}?" if names else ""


def one_of(names: Sequence[str]) -> str:
    """Return names as a choice."""
    *others, last = [f"`{name}`" for name in names]
    return f"{', '.join(others)} or {last}" if others else last


def _letters(name: str) -> str:
    """Return a name without what is easily confused: case and separators."""
    return SEPARATORS.sub("", name.lower())


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

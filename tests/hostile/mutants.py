"""Every field of an answer replaced by every kind of nonsense, one at a time."""

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

MARK = "@@MUTANT@@"
MEGABYTE = 1 << 20
ESCAPES = {  # each would act on a terminal that got it
    "osc 52": "\x1b]52;c;RVZJTA==\x07",
    "osc title": "\x1b]0;EVIL\x1b\\",
    "csi": "EVIL\x1b[6n\x1b[2J",
    "8-bit csi": "EVIL\u009b6n",
    "8-bit osc": "\u009d52;c;RVZJTA==\u009c",
    "controls": "E\0V\bI\rL\n\x7f",
    "bidi": "EVIL\u202eLIVE",
}
TEXTS = {
    "text": "EVIL",
    "empty": "",
    "option": "--pod",
    "shell": "$(touch EVIL); `touch EVIL`",
    "path": "../../EVIL",
    "digits": "99999999",
}
VALUES: dict[str, str] = {  # JSON, as it is sent
    "null": "null",
    "int": "7",
    "negative": "-7",
    "huge int": "1" + "0" * 30,
    "int of 5,000 digits": "1" + "0" * 5000,
    "float": "1.5",
    "large float": "1e18",
    "large negative float": "-1e18",
    "huge float": "1e308",
    "infinite": "1e999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "true": "true",
    "list": "[]",
    "list of null": "[null]",
    "list of lists": "[[], {}]",
    "object": "{}",
    "object in object": '{"event": {}, "code": []}',
    "surrogate": '"EVIL\\ud800"',
    "nesting": "[" * 500 + "]" * 500,
    "deep nesting": "[" * 100_000 + "]" * 100_000,
    "a megabyte": f'"{"E" * MEGABYTE}"',
    "10 MB": f'"{"E" * 10 * MEGABYTE}"',
    "10 MB of nothing": " " * 10 * MEGABYTE + "null",
    "a packed gigabyte": json.dumps(base64.b64encode(b"\x78\x9c" + b"\x00" * 100).decode()),
} | {name: json.dumps(text) for name, text in (ESCAPES | TEXTS).items()}
LARGE = {"10 MB", "10 MB of nothing", "a megabyte", "deep nesting"}


class Mutant(NamedTuple):
    """An answer with one wrong field: where that is, what is there now, and the JSON with `MARK` in its place."""

    field: str
    value: str
    template: str

    @property
    def text(self) -> str:
        return self.template.replace(f'"{MARK}"', VALUES[self.value]) if self.value else self.template

    def __str__(self) -> str:
        return f"{self.field}: {self.value or 'missing'}"


def mutants(answer: Any, name: str) -> Iterator[Mutant]:
    """Yield the answer with each field, item and the whole replaced by each value, and with each key missing."""
    for path in [(), *_paths(answer)]:
        field = name + "".join(f"[{key!r}]" for key in path)
        template = json.dumps(_replaced(answer, path))
        yield from (Mutant(field, value, template) for value in VALUES)
        if path and isinstance(path[-1], str):
            yield Mutant(field, "", json.dumps(_without(answer, path)))


def _paths(value: Any) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (key,)
        yield from ((key, *rest) for rest in _paths(inner))


def _replaced(value: Any, path: tuple[str | int, ...]) -> Any:
    if not path:
        return MARK
    copy = value.copy()
    copy[path[0]] = _replaced(value[path[0]], path[1:])
    return copy


def _without(value: Any, path: tuple[str | int, ...]) -> Any:
    copy = value.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _without(value[path[0]], path[1:])
    return copy

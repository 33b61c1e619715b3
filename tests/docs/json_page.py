"""docs/json.md as a schema: what a command may print with `--json`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
ROW = re.compile(r"^\|(.*?)\|(.*?)\|(.*)\|$")
LINK = re.compile(r"\[([^\]]*)\]\(#([^)]*)\)")
TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
}  # fmt: skip


class Field(NamedTuple):
    """The type of a field as it is written, and whether it may be absent."""

    type: str
    is_optional: bool


class Section(NamedTuple):
    """A heading of the page: what is printed (`list`, `object`, `lines`), and the fields of each object."""

    heading: str
    prints: str
    fields: dict[str, Field]


def sections() -> dict[str, Section]:
    """Return the sections of the page by their anchors."""
    page = PAGE.read_text(encoding="utf-8")
    parts = [part.split("\n", 1) for part in re.split(r"^#{2,3} ", page, flags=re.MULTILINE)[1:]]
    texts = {_anchor(heading): text for heading, text in parts}
    found = {}
    for heading, text in parts:
        prints = re.search(r"^Prints (?:an? )?(list|object|lines)", text, re.MULTILINE)
        found[_anchor(heading)] = Section(heading, prints[1] if prints else "", dict(_fields(text, texts)))
    return found


def commands() -> dict[str, Section]:
    """Return the sections of commands by the command as typed."""
    return {each.heading.strip("`"): each for each in sections().values() if each.heading.startswith("`")}


def problems(command: str, output: str) -> list[str]:
    """Return where an output differs from the page."""
    import json

    section = commands()[command]
    if section.prints == "lines":
        rows = [json.loads(line) for line in output.splitlines()]
    else:
        data = json.loads(output)
        if isinstance(data, list) != (section.prints == "list"):
            return [f"{command} prints a {type(data).__name__}"]
        rows = data if isinstance(data, list) else [data]
    assert rows, f"{command}: nothing to compare"
    return [problem for row in rows for problem in _of_object(row, section.fields, command)]


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _fields(text: str, texts: dict[str, str]) -> Iterator[tuple[str, Field]]:
    """Yield the fields of a table, with those of another section that it refers to."""
    for row in map(ROW.match, text.splitlines()):
        if row and (base := re.match(r"all fields of \[[^\]]*\]\(#([^)]*)\)", row[3].strip())):
            yield from _fields(texts[base[1]], texts)
        elif row and row[1].startswith(" `"):
            type_ = row[2].strip()
            yield row[1].strip(" `"), Field(type_.removesuffix(", optional"), type_.endswith(", optional"))


def _of_object(value: Any, fields: dict[str, Field], path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path} is not an object: {value!r}"
        return
    for name, item in value.items():
        if name not in fields:
            yield f"{path}: `{name}` is not documented"
        else:
            yield from _of_value(item, fields[name].type, f"{path}.{name}")
    for name, field in fields.items():
        if name not in value and not field.is_optional:
            yield f"{path}: `{name}` is missing"


def _of_value(value: Any, type_: str, path: str) -> Iterator[str]:
    if type_.endswith(" or null"):
        if value is None:
            return
        type_ = type_.removesuffix(" or null")
    if type_ == "any":
        return
    if link := LINK.fullmatch(type_):
        yield from _of_object(value, sections()[link[2]].fields, path)
    elif type_.startswith("list of ") and isinstance(value, list):
        for item in value:
            yield from _of_value(item, type_.removeprefix("list of "), f"{path}[]")
    elif type_.startswith("map of ") and isinstance(value, dict):
        for item in value.values():
            yield from _of_value(item, type_.removeprefix("map of "), f"{path}.*")
    elif not isinstance(value, TYPES.get(type_, ())) or (isinstance(value, bool) and type_ != "boolean"):
        yield f"{path} is {value!r}, not {type_}"

"""Read `models.md`: prose for people, one fenced TOML block per model for us. The user may have one of their own."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from pi_cli.errors import BadUsage
from pi_cli.planning import gpu_types, vllm_arguments
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.store import paths
from pi_cli.store.records import Gpu

FILE = "models.md"
OPENING = re.compile(r"\n```toml[^\n]*\n")
CLOSING = "\n```"
ID = re.compile(r"""^\s*id\s*=\s*["']([^"'\n]+)["']""", re.MULTILINE)
HEADING = re.compile(r"(?:\[([ xX])\] )?(.+)")
POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "number": (int, float),
    "whole number": int,
    "true or false": bool,
    "list": list,
    "table": dict,
}
BLOCK = {
    "id": "text",
    "params_b": "number",
    "active_params_b": "number",
    "weights_gb": "number",
    "dtype": "text",
    "min_vllm": "text",
    "tool_call_parser": "text",
    "reasoning_parser": "text",
    "gated": "true or false",
    "architecture": "table",
    "hardware": "list",
}
HARDWARE = {"gpus": "list", "count": "whole number", "args": "list", "env": "table", "notes": "text", "source": "text"}
ARCHITECTURE = {
    "name": "text",
    "heads": "whole number",
    "layers": "list",
    "max_context": "whole number",
    "expert_size": "whole number",
    "block_size": "whole number",
}
LAYERS = {name: "text" if name == "kind" else "whole number" for name in Layers.__slots__}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A way to run a model: `gpus` are names that `gpu_types` knows, or nvidia-smi's own, or `any`."""

    gpus: tuple[str, ...]
    count: int
    args: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    source: str = ""

    def suits(self, gpus: Sequence[Gpu]) -> bool:
        return self.count <= len(gpus) and all(self._names(gpu) for gpu in gpus)

    def _names(self, gpu: Gpu) -> bool:
        kind = gpu_types.recognise(gpu)
        return any(name in ("any", gpu.name) or (kind is not None and kind.is_a(name)) for name in self.gpus)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue: its data, and the heading and the line that people read.

    `params_b` are billions of parameters, `dtype` is what the weights are in. `is_verified`: we have run it ourselves.
    """

    id: str
    hardware: tuple[Configuration, ...]
    weights_gb: float
    dtype: str = ""
    params_b: float | None = None
    active_params_b: float | None = None
    min_vllm: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    gated: bool = False
    architecture: Architecture | None = None
    name: str = ""
    family: str = ""
    about: str = ""
    is_verified: bool = False


def find(model: str) -> Entry | None:
    """Return the entry for a Hugging Face id, in any spelling of case; the user's own comes before ours.

    Raises `BadUsage` for a broken block in the user's file, as all functions here do.
    """
    for block in _every_block():
        if block.id.lower() == model.lower():
            return _entry(block)
        if not block.id:
            _entry(block)  # says what is wrong with it
    return None


def entries() -> list[Entry]:
    """Return all entries, the user's own first."""
    return [_entry(block) for block in _distinct()]


def search(query: str) -> list[Entry]:
    """Return the entries in whose id or family all words of a query occur."""
    words = query.lower().split()
    return [
        _entry(block)
        for block in _distinct()
        if all(word in block.id.lower() or word in block.family.lower() for word in words)
    ]


def similar(model: str) -> list[str]:
    """Return the ids for which a shortened or misspelt one may be meant, the likeliest first."""
    ids = [block.id for block in _distinct()]
    spellings = {id.rpartition("/")[2].lower(): id for id in ids} | {id.lower(): id for id in ids}
    longer = [id for id in ids if model.lower() in id.lower()]
    close = difflib.get_close_matches(model.lower(), spellings, n=6)
    return list(dict.fromkeys([*longer, *(spellings[each] for each in close)]))[:3]


def parse(text: str, file: str | Path = FILE) -> Iterator[Entry]:
    """Yield the entries of a catalogue. Raises `BadUsage` for a block that is wrong, naming the file and the line."""
    for block in _blocks(text, file):
        yield _entry(block)


@dataclass(frozen=True, slots=True)
class _Block:
    """A TOML block as it stands in a file, from this line on, under its heading."""

    file: str | Path
    line: int
    toml: str
    is_closed: bool
    family: str
    heading: str
    about: str

    @property
    def id(self) -> str:
        found = ID.search(self.toml)
        return found[1] if found else ""


class _Wrong(ValueError):
    """Something in a block is wrong: in the `number`th table of this header, at a key (or in general)."""

    def __init__(self, what: str, header: str = "", number: int = 0, key: str = "") -> None:
        super().__init__(what)
        self.header, self.number, self.key = header, number, key


def _every_block() -> Iterator[_Block]:
    own = paths.config_dir() / FILE
    try:
        yield from _blocks(own.read_text(encoding="utf-8"), own)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(
            f"cannot read `{own}`: {error}", hint="it is your own catalogue of models: mend or move it"
        ) from error
    yield from _blocks(paths.asset(FILE).read_text(encoding="utf-8"), FILE)


def _distinct() -> list[_Block]:
    blocks: dict[str, _Block] = {}
    for block in _every_block():
        blocks.setdefault(block.id.lower() or f"{block.file}:{block.line}", block)
    return list(blocks.values())


def _blocks(text: str, file: str | Path) -> Iterator[_Block]:
    text = "\n" + text
    counted, line, end, family = 0, 0, 0, ""
    for opening in OPENING.finditer(text):
        prose = text[end : opening.start()]
        family_at = prose.rfind("\n## ")
        if family_at >= 0:
            family = prose[family_at + 4 :].partition("\n")[0]
        heading_at = prose.rfind("\n### ")
        heading, _, below = prose[heading_at + 5 :].partition("\n") if heading_at > family_at else ("", "", "")
        start = opening.end()
        closing = text.find(CLOSING, start - 1)
        is_closed = closing >= 0 and not OPENING.match(text, closing)
        end = closing + len(CLOSING) if is_closed else len(text)
        line += text.count("\n", counted, start)
        counted = start
        yield _Block(file, line, text[start : end - len(CLOSING)], is_closed, family, heading, _paragraph(below))


def _paragraph(text: str) -> str:
    """Return the first paragraph as one line; a table is none."""
    first = text.strip().partition("\n\n")[0]
    return "" if first.startswith("|") else " ".join(first.split())


def _entry(block: _Block) -> Entry:
    if not block.is_closed:
        _refuse(block, block.line - 1, "the block is not closed by a line of ```")
    try:
        data = tomllib.loads(block.toml)
        hardware, architecture = _read(data)
    except tomllib.TOMLDecodeError as error:
        position = POSITION.search(str(error))
        offset = int(position[1]) - 1 if position and position[1] else block.toml.count("\n")
        _refuse(block, block.line + offset, POSITION.sub("", str(error)))
    except _Wrong as error:
        _refuse(block, block.line + _offset(block.toml, error), str(error))
    heading = HEADING.fullmatch(block.heading)
    return Entry(
        hardware=hardware,
        architecture=architecture,
        name=heading[2] if heading else data["id"].rpartition("/")[2],
        family=block.family,
        about=block.about,
        is_verified=bool(heading and (heading[1] or "").strip()),
        **data,
    )


def _refuse(block: _Block, line: int, what: str) -> NoReturn:
    model = f" (`{block.id}`)" if block.id else ""
    raise BadUsage(
        f"`{block.file}`, line {line}{model}: {what}",
        hint="blocks are written as in pi's own `models.md`: compare with one there",
    )


def _offset(toml: str, wrong: _Wrong) -> int:
    """Return how many lines into a block the table begins in which something is wrong, or the key there."""
    header = re.compile(rf"^[ \t]*\[+{re.escape(wrong.header)}\]+", re.MULTILINE)
    headers = [found.start() for found in header.finditer(toml)] if wrong.header else []
    start = headers[wrong.number] if wrong.number < len(headers) else 0
    key = re.compile(rf"^[ \t]*{re.escape(wrong.key)}[ \t]*=", re.MULTILINE).search(toml, start) if wrong.key else None
    return toml.count("\n", 0, key.start() if key else start)


def _read(data: dict[str, Any]) -> tuple[tuple[Configuration, ...], Architecture | None]:
    """Check a block, and take its tables out of it."""
    _check(data, BLOCK, ("id", "weights_gb", "hardware"))
    tables = data.pop("hardware")
    if not tables:
        raise _Wrong("`hardware` is empty", key="hardware")
    hardware = tuple(_configuration(each, number) for number, each in enumerate(tables))
    shape = data.pop("architecture", None)
    return hardware, None if shape is None else _architecture(shape)


def _configuration(data: Any, number: int) -> Configuration:
    def wrong(what: str, key: str = "") -> NoReturn:
        raise _Wrong(what, "hardware", number, key)

    if not isinstance(data, dict):
        wrong("`hardware` should be tables, each under its `[[hardware]]`")
    _check(data, HARDWARE, ("gpus", "count", "args"), "hardware", number)
    for key in ("gpus", "args"):
        if not all(isinstance(each, str) for each in data[key]):
            wrong(f"`{key}` should be a list of texts, each in quotes", key)
    if not data["gpus"]:
        wrong('`gpus` should name at least one GPU, or be ["any"]', "gpus")
    if ours := [each for each in data["args"] if vllm_arguments.name_of(each) in vllm_arguments.SET_BY_PI]:
        wrong(
            f"`{ours[0]}` cannot stand in `args`: {vllm_arguments.SET_BY_PI[vllm_arguments.name_of(ours[0])]}", "args"
        )
    if (used := vllm_arguments.gpus_requested(data["args"])) != data["count"]:
        wrong(f"`args` use {used} GPUs, and `count` is {data['count']}", "count")
    if bad := [
        name for name, value in data.get("env", {}).items() if not (isinstance(value, str) and VARIABLE.fullmatch(name))
    ]:
        wrong(f"`{bad[0]}` in `env` should be a variable's name, with a text in quotes", "env")
    return Configuration(**{**data, "gpus": tuple(data["gpus"]), "args": tuple(data["args"])})


def _architecture(data: dict[str, Any]) -> Architecture:
    _check(data, ARCHITECTURE, ("name", "heads", "layers", "max_context"), "architecture")
    for layers in data["layers"]:
        if not isinstance(layers, dict):
            raise _Wrong("`layers` should be a list of tables, each in braces", "architecture", key="layers")
        _check(layers, LAYERS, ("kind", "count"), "architecture")
        if layers["kind"] not in ("full", "sliding", "mla", "linear"):
            raise _Wrong(f"`{layers['kind']}` is no kind of layers", "architecture", key="layers")
    return Architecture(**{**data, "layers": tuple(Layers(**layers) for layers in data["layers"])})


def _check(
    data: Mapping[str, Any], known: Mapping[str, str], needed: Sequence[str], header: str = "", number: int = 0
) -> None:
    """Check a table's keys, and of what kind their values are."""
    for key, value in data.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean `{close[0]}`?" if close else ""
            raise _Wrong(f"`{key}` is not known here{meant}", header, number, key)
        kind = KINDS[known[key]]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise _Wrong(f"`{key}` should be a {known[key]}", header, number, key)
    for key in needed:
        if key not in data:
            raise _Wrong(f"`{key}` is missing", header, number)

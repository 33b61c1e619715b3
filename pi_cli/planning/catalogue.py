"""Read `models.md`: prose for people, and one fenced TOML block per model for pi. Users may add a file of their own."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, get_args

from pi_cli.errors import BadUsage
from pi_cli.planning import gpu_types, merging, recipes
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.widths import Widths
from pi_cli.store import paths
from pi_cli.store.records import Gpu
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.kinds import Kind

FILE = "models.md"
BLOCK_START = re.compile(r"\n```toml[^\n]*\n")
BLOCK_END = "\n```"
ID_LINE = re.compile(r"""^\s*id\s*=\s*["']([^"'\n]+)["']""", re.MULTILINE)
HEADING = re.compile(r"(?:\[([ xX])\] )?(.+)")
TOML_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

VALUE_TYPES: dict[str, type | tuple[type, ...]] = {
    "a string": str,
    "a number": (int, float),
    "an integer": int,
    "a boolean": bool,
    "an array": list,
    "a table": dict,
}
BLOCK_KEYS = {
    "id": "a string",
    "params_b": "a number",
    "active_params_b": "a number",
    "weights_gb": "a number",
    "dtype": "a string",
    "quantization": "a string",
    "attention": "a string",
    "min_vllm": "a string",
    "tool_call_parser": "a string",
    "reasoning_parser": "a string",
    "gated": "a boolean",
    "kind": "a string",
    "speculative": "a string",
    "architecture": "a table",
    "hardware": "an array",
}
KINDS: tuple[Kind, ...] = get_args(Kind)
HARDWARE_KEYS = {
    "gpus": "an array",
    "count": "an integer",
    "args": "an array",
    "env": "a table",
    "notes": "a string",
    "source": "a string",
}
ARCHITECTURE_KEYS = {
    "name": "a string",
    "heads": "an integer",
    "layers": "an array",
    "max_context": "an integer",
    "expert_size": "an integer",
    "block_size": "an integer",
    "widths": "a table",
}
WIDTHS_KEYS = dict.fromkeys(Widths.__slots__, "an integer")
LAYERS_KEYS = {name: "a string" if name == "kind" else "an integer" for name in Layers.__slots__}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A tested way to run a model: `gpus` are names of `gpu_types`, names of nvidia-smi, or `any`.

    `is_fetched`: it is a recipe's, which uses one GPU or the whole machine, whatever the size of the model.
    """

    gpus: tuple[str, ...]
    count: int
    args: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    source: str = ""
    is_fetched: bool = False

    def suits(self, gpus: Sequence[Gpu]) -> bool:
        return self.count <= len(gpus) and all(self._names(gpu) for gpu in gpus)

    def _names(self, gpu: Gpu) -> bool:
        type = gpu_types.recognise(gpu)
        return any(name in ("any", gpu.name) or (type is not None and type.is_a(name)) for name in self.gpus)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue: its data, and the heading and description above its block.

    `params_b` are billions of parameters, `dtype` is the type of the weights, `quantization` vLLM's name of its method
    if that is not the usual one for the type, `attention` is `sparse` if each token attends to an indexed part of the
    cache only (DeepSeek-V3.2, GLM-5). `kind` is one of `KINDS`: what the model returns. `speculative` is the value of
    `--speculative-config` that its recipe offers, empty if none. `is_verified`: we have run it ourselves. `general` has
    the arguments for all GPUs, where a fetched recipe gives them, and `origin` says what came from there.
    """

    id: str
    hardware: tuple[Configuration, ...]
    weights_gb: float
    dtype: str = ""
    quantization: str = ""
    attention: str = ""
    params_b: float | None = None
    active_params_b: float | None = None
    min_vllm: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    gated: bool = False
    kind: Kind = "generation"
    speculative: str = ""
    architecture: Architecture | None = None
    name: str = ""
    family: str = ""
    about: str = ""
    is_verified: bool = False
    general: Configuration | None = None
    origin: str = ""


def find(model: str) -> Entry | None:
    """Return the entry for a Hugging Face id, in upper or lower case; the user's own entry comes before ours.

    Raises `BadUsage` for an invalid block in the user's file, like all functions here.
    """
    for block in _every_block():
        if block.id.lower() == model.lower():
            return _current(block)
        if not block.id:
            _entry(block)  # raises, with the reason
    return None


def entries() -> list[Entry]:
    """Return all entries, the user's own first."""
    return [_current(block) for block in _distinct()]


def search(query: str) -> list[Entry]:
    """Return the entries whose id or family contains every word of a query."""
    words = query.lower().split()
    return [
        _current(block)
        for block in _distinct()
        if all(word in block.id.lower() or word in block.family.lower() for word in words)
    ]


def ids() -> list[str]:
    """Return the ids of all entries, the user's own first; without reading the entries themselves."""
    return [block.id for block in _distinct() if block.id]


def parse(text: str, file: str | Path = FILE) -> Iterator[Entry]:
    """Yield the entries of a catalogue. Raises `BadUsage` for an invalid block, naming the file and the line."""
    for block in _blocks(text, file):
        yield _entry(block)


@dataclass(frozen=True, slots=True)
class _Block:
    """A TOML block of a file, its first line, and the heading and description above it."""

    file: str | Path
    line: int
    toml: str
    is_closed: bool
    family: str
    heading: str
    about: str

    @property
    def id(self) -> str:
        match = ID_LINE.search(self.toml)
        return match[1] if match else ""


class _Invalid(ValueError):
    """An invalid value in a block: in the `number`th table of this header, at this key, or in the block as a whole."""

    def __init__(self, message: str, header: str = "", number: int = 0, key: str = "") -> None:
        super().__init__(message)
        self.header, self.number, self.key = header, number, key


def _every_block() -> Iterator[_Block]:
    own = paths.config_dir() / FILE
    try:
        yield from _blocks(own.read_text(encoding="utf-8"), own)
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise BadUsage(
            f"cannot read `{own}`: {error}", hint="it is your own catalogue of models: repair the file, or move it away"
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
    for opening in BLOCK_START.finditer(text):
        prose = text[end : opening.start()]
        family_at = prose.rfind("\n## ")
        if family_at >= 0:
            family = prose[family_at + 4 :].partition("\n")[0]
        heading_at = prose.rfind("\n### ")
        heading, _, below = prose[heading_at + 5 :].partition("\n") if heading_at > family_at else ("", "", "")
        start = opening.end()
        closing = text.find(BLOCK_END, start - 1)
        is_closed = closing >= 0 and not BLOCK_START.match(text, closing)
        end = closing + len(BLOCK_END) if is_closed else len(text)
        line += text.count("\n", counted, start)
        counted = start
        yield _Block(file, line, text[start : end - len(BLOCK_END)], is_closed, family, heading, _paragraph(below))


def _current(block: _Block) -> Entry:
    """Return the entry of a block; one of ours with the fetched recipe for it, if that is newer."""
    entry = _entry(block)
    if block.file != FILE:
        return replace(entry, origin="your own `models.md`")
    recipe = recipes.newer(entry.id)
    return merging.merged(entry, recipe) if recipe else entry


def _paragraph(text: str) -> str:
    """Return the first paragraph as one line; empty if it is a table."""
    first = text.strip().partition("\n\n")[0]
    return "" if first.startswith("|") else " ".join(first.split())


def _entry(block: _Block) -> Entry:
    if not block.is_closed:
        _refuse(block, block.line - 1, "the block is not closed by a line of ```")
    try:
        data = tomllib.loads(block.toml)
        hardware, architecture = _tables(data)
    except tomllib.TOMLDecodeError as error:
        position = TOML_POSITION.search(str(error))
        offset = int(position[1]) - 1 if position and position[1] else block.toml.count("\n")
        _refuse(block, block.line + offset, TOML_POSITION.sub("", str(error)))
    except _Invalid as error:
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


def _refuse(block: _Block, line: int, reason: str) -> NoReturn:
    model = f" (`{block.id}`)" if block.id else ""
    raise BadUsage(
        f"`{block.file}`, line {line}{model}: {reason}",
        hint="compare it with a block in pi's own `models.md`",
    )


def _offset(toml: str, error: _Invalid) -> int:
    """Return the line within a block, from 0, of the invalid key or of the table that contains it."""
    header = re.compile(rf"^[ \t]*\[+{re.escape(error.header)}\]+", re.MULTILINE)
    headers = [match.start() for match in header.finditer(toml)] if error.header else []
    start = headers[error.number] if error.number < len(headers) else 0
    key = re.compile(rf"^[ \t]*{re.escape(error.key)}[ \t]*=", re.MULTILINE).search(toml, start) if error.key else None
    return toml.count("\n", 0, key.start() if key else start)


def _tables(data: dict[str, Any]) -> tuple[tuple[Configuration, ...], Architecture | None]:
    """Check a block, and remove and parse its tables."""
    _check(data, BLOCK_KEYS, ("id", "weights_gb", "hardware"))
    if data.get("kind", "generation") not in KINDS:
        raise _Invalid(f"`{data['kind']}` is not a kind of models: it should be one of {', '.join(KINDS)}", key="kind")
    if "speculative" in data and not _is_json_object(data["speculative"]):
        raise _Invalid("`speculative` should be a JSON object, the value of `--speculative-config`", key="speculative")
    tables = data.pop("hardware")
    if not tables:
        raise _Invalid("`hardware` is empty", key="hardware")
    if data.get("attention", "sparse") != "sparse":
        raise _Invalid('`attention` should be "sparse", or be left out', key="attention")
    hardware = tuple(_configuration(table, number) for number, table in enumerate(tables))
    architecture = data.pop("architecture", None)
    return hardware, None if architecture is None else _architecture(architecture)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _configuration(data: Any, number: int) -> Configuration:
    def refuse(reason: str, key: str = "") -> NoReturn:
        raise _Invalid(reason, "hardware", number, key)

    if not isinstance(data, dict):
        refuse("`hardware` should be an array of tables, each under its own `[[hardware]]`")
    _check(data, HARDWARE_KEYS, ("gpus", "count", "args"), "hardware", number)
    for key in ("gpus", "args"):
        if not all(isinstance(text, str) for text in data[key]):
            refuse(f"`{key}` should be an array of strings", key)
    if not data["gpus"]:
        refuse('`gpus` should name at least one GPU, or be ["any"]', "gpus")
    for argument in data["args"]:
        if reason := vllm_arguments.set_by_pi(argument):
            refuse(f"`{argument}` is not allowed in `args`: {reason}", "args")
    if (used := vllm_arguments.gpus_requested(data["args"])) != data["count"]:
        refuse(f"`args` use {used} GPUs, and `count` is {data['count']}", "count")
    for name, value in data.get("env", {}).items():
        if not (isinstance(value, str) and VARIABLE_NAME.fullmatch(name)):
            refuse(f"`{name}` in `env` should be the name of a variable, with a string as its value", "env")
    return Configuration(**{**data, "gpus": tuple(data["gpus"]), "args": tuple(data["args"])})


def _architecture(data: dict[str, Any]) -> Architecture:
    _check(data, ARCHITECTURE_KEYS, ("name", "heads", "layers", "max_context"), "architecture")
    for layers in data["layers"]:
        if not isinstance(layers, dict):
            raise _Invalid("`layers` should be an array of tables", "architecture", key="layers")
        _check(layers, LAYERS_KEYS, ("kind", "count"), "architecture")
        if layers["kind"] not in ("full", "sliding", "mla", "linear"):
            raise _Invalid(f"`{layers['kind']}` is not a kind of layers", "architecture", key="layers")
    widths = data.get("widths", {})
    _check(widths, WIDTHS_KEYS, (), "architecture")
    layers = tuple(Layers(**layers) for layers in data["layers"])
    return Architecture(**{**data, "layers": layers, "widths": Widths(**widths)})


def _check(
    data: Mapping[str, Any], known: Mapping[str, str], needed: Sequence[str], header: str = "", number: int = 0
) -> None:
    """Check the keys of a table and the types of their values."""
    for key, value in data.items():
        if key not in known:
            similar = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean `{similar[0]}`?" if similar else ""
            raise _Invalid(f"`{key}` is not a known key{meant}", header, number, key)
        type = VALUE_TYPES[known[key]]
        if not isinstance(value, type) or (isinstance(value, bool) and type is not bool):
            raise _Invalid(f"`{key}` should be {known[key]}", header, number, key)
    for key in needed:
        if key not in data:
            raise _Invalid(f"`{key}` is missing", header, number)

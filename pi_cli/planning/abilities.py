"""What a version of vLLM can do: its architectures, quantisation methods, parsers, options and variables.

`remote/setup/vllm_abilities.py` writes it beside each vLLM that setup installs; `vllm-0.32.0.json` is what it printed
for the release that this pi was written for, and stands for any vLLM that was not asked.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SHIPPED = Path(__file__).with_name("vllm-0.32.0.json")
FORMAT = 1

Takes = Literal["yes", "no", "maybe", "many"]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of `vllm serve`: its names, whether a value follows, and the values that it accepts, if listed."""

    names: tuple[str, ...]
    value: Takes = "yes"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a vLLM says about itself. An empty field is not known: it is never a reason to refuse a model.

    `architectures` are the kinds of models by name of their class (`generation`, `multimodal`, `embedding`, …),
    `former` those that were removed with the last version that had them, `transformers` those that it may run by the
    library of that name. `quantisations` are the methods with the least compute capability, (7, 5) for 7.5.
    """

    version: str = ""
    architectures: Mapping[str, str] = field(default_factory=dict)
    former: Mapping[str, str] = field(default_factory=dict)
    transformers: frozenset[str] = frozenset()
    quantisations: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tool_call_parsers: frozenset[str] = frozenset()
    reasoning_parsers: frozenset[str] = frozenset()
    options: tuple[Option, ...] = ()
    variables: frozenset[str] = frozenset()


@functools.cache
def shipped() -> Abilities:
    """Return the abilities of the vLLM release that this pi was written for."""
    return parse(SHIPPED.read_text(encoding="utf-8"))


def parse(text: str) -> Abilities:
    """Read what `vllm_abilities.py` printed. Raises `ValueError` if it is not that; unknown keys are ignored."""
    data = json.loads(text)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError("not the abilities of a vLLM")
    return Abilities(
        version=_text(data.get("version", "")),
        architectures={name: kind for kind, names in _mapping(data, "architectures").items() for name in _names(names)},
        former={name: _text(version) for name, version in _mapping(data, "former_architectures").items()},
        transformers=frozenset(_names(data.get("transformers_architectures", []))),
        quantisations={name: divmod(_number(least), 10) for name, least in _mapping(data, "quantisations").items()},
        tool_call_parsers=frozenset(_names(data.get("tool_call_parsers", []))),
        reasoning_parsers=frozenset(_names(data.get("reasoning_parsers", []))),
        options=tuple(_option(option) for option in _list(data.get("options", []))),
        variables=frozenset(_names(data.get("variables", []))),
    )


def _option(data: Any) -> Option:
    if not isinstance(data, dict) or data.get("value") not in ("yes", "no", "maybe", "many"):
        raise ValueError("not an option of vLLM")
    return Option(tuple(_names(data.get("names"))), data["value"], tuple(_names(data.get("choices", []))))


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"`{key}` is not a table")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value


def _names(value: Any) -> list[str]:
    return [_text(name) for name in _list(value)]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise ValueError("a name is not a text")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a compute capability is not a number")
    return value

"""What a version of vLLM can do: its architectures, quantisation methods, parsers, options and variables.

`remote/setup/vllm_abilities.py` writes it beside each vLLM that setup installs; `vllm-0.32.0.json` is what it printed
for the release that this pi was written for, and stands for any vLLM that was not asked.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pi_cli.vllm import versions

SHIPPED = Path(__file__).with_name("vllm-0.32.0.json")
FORMAT = 1
MAX_NAME = 200  # characters; vLLM's longest name has about 60

Takes = Literal["yes", "no", "maybe", "many"]
Capability = tuple[int, int]
"""A GPU's compute capability, (7, 5) for 7.5."""


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
    library of that name. `quantisations` are the methods with the least compute capability, `schemes` the same within
    the methods `compressed-tensors` and `quark`. `sparse_attention` says for which capabilities it has the attention of
    DeepSeek-V3.2 and GLM-5. `audio`: it has the libraries that read sound, which are an extra of the package.
    """

    version: str = ""
    architectures: Mapping[str, str] = field(default_factory=dict)
    former: Mapping[str, str] = field(default_factory=dict)
    transformers: frozenset[str] = frozenset()
    quantisations: Mapping[str, Capability] = field(default_factory=dict)
    schemes: Mapping[str, Capability] = field(default_factory=dict)
    sparse_attention: Mapping[Capability, bool] = field(default_factory=dict)
    tool_call_parsers: frozenset[str] = frozenset()
    reasoning_parsers: frozenset[str] = frozenset()
    options: tuple[Option, ...] = ()
    variables: frozenset[str] = frozenset()
    audio: bool | None = None

    @property
    def option_names(self) -> frozenset[str]:
        """Return all names of all options, with `-` between words."""
        return frozenset(name for option in self.options for name in option.names)


@functools.cache
def shipped() -> Abilities:
    """Return the abilities of the vLLM release that this pi was written for."""
    return parse(SHIPPED.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Vllm:
    """The vLLM that a plan is for; by default the release that this pi was written for.

    `is_certain`: it said so itself, or it is that release. Otherwise the abilities are those of another version, which
    are never a reason to refuse a model. `is_own`: it said so itself, so that it has no other options. `version` is
    empty if it is not known.
    """

    version: str = field(default_factory=lambda: shipped().version)
    abilities: Abilities = field(default_factory=shipped, repr=False)
    is_certain: bool = True
    is_own: bool = False

    def for_model(self, min_vllm: str | None) -> "Vllm":
        """Return the vLLM that runs a model: a newer one, of which nothing is known, if this is too old for it."""
        if min_vllm and self.version and versions.release(self.version) < versions.release(min_vllm):
            return Vllm(min_vllm, shipped(), min_vllm == shipped().version)
        return self


def of(version: str | None, digest: str | None) -> Vllm:
    """Return a pod's default vLLM: its version and the digest of what it said about itself, as far as they are known.

    Nothing it said about another version counts.
    """
    public = _public(version or "")
    own = _read(digest) if digest else None
    if own and own.version and (not public or _public(own.version) == public):
        return Vllm(version or own.version, own, is_own=True)
    return Vllm(version or "", shipped(), public == shipped().version)


def _read(digest: str) -> Abilities | None:
    from pi_cli.store import vllm_files  # the simulated vLLM has this module, and no store

    text = vllm_files.read(digest)
    return understood(text) if text is not None else None


@functools.lru_cache(maxsize=16)
def understood(text: str) -> Abilities | None:
    """Return what `vllm_abilities.py` printed; None if it is not that."""
    try:
        return parse(text)
    except (ValueError, RecursionError):
        return None


def _public(version: str) -> str:
    """Return a version without the name of its build: `0.32.0` for `0.32.0+cu129`."""
    return version.partition("+")[0]


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
        quantisations=_capabilities(data, "quantisations"),
        schemes=_capabilities(data, "schemes"),
        sparse_attention={
            _capability(name): value is True for name, value in _mapping(data, "sparse_attention").items()
        },
        tool_call_parsers=frozenset(_names(data.get("tool_call_parsers", []))),
        reasoning_parsers=frozenset(_names(data.get("reasoning_parsers", []))),
        options=tuple(_option(option) for option in _list(data.get("options", []))),
        variables=frozenset(_names(data.get("variables", []))),
        audio=_flag(data.get("audio")),
    )


def _option(data: Any) -> Option:
    if not isinstance(data, dict) or data.get("value") not in ("yes", "no", "maybe", "many"):
        raise ValueError("not an option of vLLM")
    return Option(tuple(_names(data.get("names"))), data["value"], tuple(_names(data.get("choices", []))))


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"`{key}` is not a table")
    return {_text(name): inner for name, inner in value.items()}


def _capabilities(data: Mapping[str, Any], key: str) -> dict[str, Capability]:
    return {name: divmod(_number(least), 10) for name, least in _mapping(data, key).items()}


def _capability(name: str) -> Capability:
    if not re.fullmatch("[0-9]{1,4}", name):
        raise ValueError("a compute capability is not a number")
    return divmod(int(name), 10)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list is missing")
    return value


def _names(value: Any) -> list[str]:
    return [_text(name) for name in _list(value)]


def _flag(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("a flag is not true or false")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_NAME:
        raise ValueError("a name is not a text")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a compute capability is not a number")
    return value

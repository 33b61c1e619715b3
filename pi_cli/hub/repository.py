"""A model's repository as the Hugging Face Hub describes it. Pure: `hub` asks."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

REPOSITORY_ID = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?", re.ASCII)
MAX_BASES = 8  # merges name many: more say nothing about how to serve a model


@dataclass(frozen=True, slots=True)
class Base:
    """A model that another one was made from, and how: `quantized`, `finetune`, `adapter`, `merge`, or not known."""

    id: str
    relation: str = ""


@dataclass(frozen=True, slots=True)
class About:
    """What the authors and the Hub say about a model: its task, its library, its tags and the models it came from.

    `task` is the Hub's `pipeline_tag`, e.g. `text-generation`; `library` is e.g. `transformers`, `peft` or `gguf`.
    """

    task: str = ""
    library: str = ""
    tags: frozenset[str] = frozenset()
    bases: tuple[Base, ...] = ()


NOTHING_SAID = About()


@dataclass(frozen=True, slots=True)
class Repository:
    """The Hub's description of a model: `id` is its canonical spelling, sizes are in bytes.

    `config` is config.json, None if it is missing or invalid. `weights` is what vLLM would load, None if that is not
    known. `dtypes` are numbers of parameters by safetensors dtype, e.g. `{"BF16": 32_000_000_000}`, empty if they are
    not known. `files` is the whole download, and `names` are the paths of its files. `adapter` is adapter_config.json,
    which is read where there is no config.json.
    """

    id: str
    config: dict[str, Any] | None
    weights: int | None
    dtypes: dict[str, int]
    files: int | None
    is_gated: bool
    names: frozenset[str] = frozenset()
    about: About = NOTHING_SAID
    adapter: dict[str, Any] | None = None


def about(info: Mapping[str, Any]) -> About:
    """Read what the Hub's answer says beside the files; what is not of the expected type is left out."""
    tags = [tag for tag in _list(info.get("tags")) if _text(tag)]
    return About(
        task=_text(info.get("pipeline_tag")),
        library=_text(info.get("library_name")),
        tags=frozenset(tags),
        bases=tuple(_bases(info, tags))[:MAX_BASES],
    )


def architectures(config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the classes that a config.json names, the first of which vLLM prefers."""
    return tuple(name for name in _list((config or {}).get("architectures")) if _text(name))


def _bases(info: Mapping[str, Any], tags: list[str]) -> Iterator[Base]:
    """Yield the models that a model came from: the Hub derives tags from the model card and adds the relation."""
    card = info.get("cardData")
    card = card if isinstance(card, dict) else {}
    named = card.get("base_model")
    relations: dict[str, str] = {}
    for tag in tags:
        kind, _, rest = tag.partition(":")
        relation, _, id = rest.rpartition(":")
        if kind == "base_model" and (relation or id not in relations):
            relations[id] = relation
    for name in named if isinstance(named, list) else [named]:
        if id := _text(name):
            relations.setdefault(id, _text(card.get("base_model_relation")))
    for id, relation in relations.items():
        if REPOSITORY_ID.fullmatch(id) and id.lower() != str(info.get("id")).lower():
            yield Base(id, relation)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else ""

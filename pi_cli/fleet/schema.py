"""The JSON schema of `pi.toml`, for editors; made of the same description as the reader. Pure."""

from collections.abc import Mapping
from typing import Any

from pi_cli.fleet.description import GATEWAY, MODEL, POD, TOP, Key
from pi_cli.fleet.file import CHOOSES
from pi_cli.fleet.values import NAME_SCHEMA

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def make() -> dict[str, Any]:
    """Return the schema. What one table says of another, such as the pods of a model, it cannot check."""
    properties = {
        **_properties(TOP),
        "pods": _named(_table(POD), "the machines, by the names that pi has for them"),
        "models": _named(_model(), "the models, by the names under which they are served"),
        "gateway": _table(GATEWAY) | {"description": "one endpoint for all models: `pi gateway`"},
    }
    return {
        "$schema": DRAFT,
        "title": "pi.toml",
        "description": "Pods and models as `pi up` makes them.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _model() -> dict[str, Any]:
    either = [{"required": ["pods"]}, {"required": ["across"]}]
    return _table(MODEL) | {
        "oneOf": either,
        "dependentSchemas": {"vllm": {"properties": dict.fromkeys(CHOOSES, False)}},
    }


def _table(keys: Mapping[str, Key]) -> dict[str, Any]:
    required = [name for name, key in keys.items() if key.is_required]
    table = {"type": "object", "properties": _properties(keys), "additionalProperties": False}
    return table | ({"required": required} if required else {})


def _named(table: Mapping[str, Any], about: str) -> dict[str, Any]:
    return {"type": "object", "description": about, "propertyNames": NAME_SCHEMA, "additionalProperties": table}


def _properties(keys: Mapping[str, Key]) -> dict[str, Any]:
    return {name: {"description": key.about, **key.kind.schema} for name, key in keys.items()}

"""What a user requires of an answer: a JSON schema that it matches, a tool that is called, an effort of reasoning."""

import json
from pathlib import Path
from typing import Any

from pi_cli.errors import BadUsage

# vLLM's values of `reasoning_effort` that all its models with several efforts have; `none` also sets `enable_thinking`
# to false in the templates of models that only know on and off (Qwen3).
EFFORTS = ("none", "low", "medium", "high")
TOOL_CHOICES = frozenset({"auto", "none", "required"})
SCHEMA_NAME = "answer"  # the API requires a name
MAX_SCHEMA = 1_000_000  # bytes


def read_schema(given: str) -> dict[str, Any]:
    """Return a JSON schema from the text of one, or from a file. Raises `BadUsage` if it is not a JSON object."""
    text, where = given, "the schema"
    if not given.lstrip().startswith("{"):
        where = f"`{given}`"
        try:
            with Path(given).expanduser().open("rb") as file:
                data = file.read(MAX_SCHEMA + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadUsage(f"cannot read `{given}`: {reason}", hint="`--json-schema` takes a file, or JSON") from error
        if len(data) > MAX_SCHEMA:
            raise BadUsage(f"`{given}` is too large for a schema", hint="`--json-schema` takes a JSON schema")
        text = data.decode("utf-8", "replace")
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise BadUsage(f"{where} is not JSON: {error.msg} ({place})", hint="correct it there") from error
    except RecursionError as error:
        raise BadUsage(f"{where} is nested too deeply", hint="`--json-schema` takes a JSON schema") from error
    if not isinstance(schema, dict):
        raise BadUsage(f"{where} is not a JSON object", hint='for example: {"type": "object"}')
    return schema

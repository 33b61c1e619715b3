"""What a tool is, and how the arguments from a model are checked."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any


class ToolError(Exception):
    """A tool call failed; the message is for the model, and says how to correct the call."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a model may call. `parameters` is a JSON schema; `run` takes its properties as keywords."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Callable[..., Awaitable[str]]

    def offer(self) -> dict[str, Any]:
        """Return the description for the model, in the form that all APIs share."""
        return {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}


def parameters(required: list[str], **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def read_arguments(tool: Tool, arguments: str) -> dict[str, Any]:
    """Read the JSON arguments of a call of `tool`; correct common mistakes (`"10"` for 10, one string for a list).

    Raises ToolError, which names the parameters, for invalid arguments.
    """
    properties: Mapping[str, Mapping[str, Any]] = tool.parameters["properties"]
    usage = f"`{tool.name}` takes {', '.join(properties)}"
    try:
        values = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise ToolError(f"the arguments are not valid JSON ({error}): {arguments[:200]}") from error
    if not isinstance(values, dict):
        raise ToolError(f"the arguments must be a JSON object; {usage}")
    if unknown := values.keys() - properties.keys():
        raise ToolError(f"there is no parameter {', '.join(f'`{name}`' for name in sorted(unknown))}; {usage}")
    present = {name: value for name, value in values.items() if value is not None}
    if missing := [name for name in tool.parameters["required"] if name not in present]:
        raise ToolError(f"{', '.join(f'`{name}`' for name in missing)} is missing; {usage}")
    return {name: converted(name, value, properties[name]["type"]) for name, value in present.items()}


def converted(name: str, value: Any, kind: str) -> Any:
    match kind, value:
        case "string", str():
            return value
        case "integer", bool():
            pass
        case "integer", int() if abs(value) < 2**63:
            return value
        case "integer", float() if value.is_integer() and abs(value) < 2**63:
            return int(value)
        case "integer", str() if value.strip().isdecimal() and len(value) < 18:
            return int(value)
        case "array", str():
            return [value]
        case "array", list() if all(isinstance(item, str) for item in value):
            return value
    expected = {"string": "a string", "integer": "a whole number", "array": "a list of strings"}[kind]
    raise ToolError(f"`{name}` must be {expected}, not {json.dumps(value)[:100]}")

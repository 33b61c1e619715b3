"""The options of `vllm serve` whose value is JSON, and what is wrong with a value. Pure."""

import ast
import json
import re
from dataclasses import dataclass

# The options of vLLM 0.32 whose value is a JSON object. `tests/engine/test_option_reading.py` asks vLLM's own parser.
OBJECTS = frozenset((
    "--additional-config", "--attention-config", "--aux-output-config", "--compilation-config",
    "--custom-histogram-buckets", "--default-chat-template-kwargs", "--default-mm-loras", "--diffusion-config",
    "--ec-manager-config", "--ec-transfer-config", "--engram-config", "--eplb-config", "--fault-tolerance-config",
    "--hf-overrides", "--ir-op-priority", "--kernel-config", "--kv-events-config", "--kv-transfer-config",
    "--limit-mm-per-prompt", "--logging-config", "--media-io-kwargs", "--mm-processor-kwargs",
    "--model-class-overrides", "--model-loader-extra-config", "--override-generation-config", "--pooler-config",
    "--profiler-config", "--pt-load-map-location", "--quantization-config", "--reasoning-config",
    "--speculative-config", "--structured-outputs-config", "--watermark-config", "--weight-transfer-config",
))  # fmt: skip
LISTS = frozenset(("--allowed-headers", "--allowed-methods", "--allowed-origins"))
# These take a text too; what begins with a brace is meant to be an object.
OR_TEXT = frozenset((
    "--additional-config", "--hf-overrides", "--model-loader-extra-config", "--pt-load-map-location",
))  # fmt: skip
UNSET = ("", "None")  # vLLM takes these for an option that is not given
# vLLM reads `80m` as a number, in the options that have a class of their own (engine/arg_utils.py).
STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|\b\d+(?:\.\d+)?[kKmMgGtT]\b')


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a value is not what the option takes; `at` is the position of the fault in it, None for all of it.

    `corrected` is the value as JSON, if it was written as Python: with single quotes, `True` or `None`.
    """

    reason: str
    at: int | None = None
    corrected: str | None = None


def fault(name: str, value: str) -> Fault | None:
    """Return what is wrong with the value of an option; None if it takes no JSON, or the value is valid.

    >>> fault("--hf-overrides", '{"a": }')
    Fault(reason='expecting value at character 7', at=6, corrected=None)
    >>> fault("--hf-overrides", "{'a': True}").corrected
    '{"a": true}'
    """
    if name not in OBJECTS | LISTS or value in UNSET or (name in OR_TEXT and not value.lstrip().startswith("{")):
        return None
    try:
        data = json.loads(STRING_OR_NUMBER.sub(_plain_number, value))
    except json.JSONDecodeError as error:
        reason = f"{error.msg[0].lower()}{error.msg[1:]} at character {error.pos + 1}"
        return Fault(reason, error.pos, _from_python(value))
    except RecursionError:
        return Fault("too many nested levels")
    if name in OBJECTS and not isinstance(data, dict):
        return Fault("an object in braces is needed", corrected=_from_python(value))
    return None


def _plain_number(match: re.Match[str]) -> str:
    """Return a text unchanged, and a number with a unit as a number of the same length."""
    return match[0] if match[0].startswith('"') else f"{match[0][:-1]}0"


def _from_python(value: str) -> str | None:
    try:
        data = ast.literal_eval(value)
        return json.dumps(data) if isinstance(data, dict) else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None

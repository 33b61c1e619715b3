"""A known cause of failure: its pattern, its summary, and what to do about it."""

from dataclasses import dataclass

from pi_cli.diagnosis import remedies
from pi_cli.diagnosis.remedies import Remedy


@dataclass(frozen=True, slots=True)
class KnownCause:
    """A cause of failure that pi recognises by a pattern.

    `summary` and `hint` are templates for `hints.fill`, with the pattern's groups, `pod`, `model`, and the model's
    `page` and cache `folder`. Where the user's command is known, `remedy` replaces the hint. `is_vague`: the message
    reports only a consequence, and the cause may be elsewhere in the log. `within` is a pattern for the functions of
    the traceback, `capture_model`: the cause counts only if one of them matches.
    """

    pattern: str
    summary: str
    hint: str
    remedy: Remedy | None = None
    is_vague: bool = False
    within: str = ""


# For an error without a known cause: on the following lines, vLLM explains why it rejects a setting.
REFUSED_ARGUMENTS = KnownCause(
    r"validation errors? for (?P<config>\w+)\n\s*(?:Value error, )?(?P<why>(?s:.*?))\s*(?:\[type=|$)",
    "vLLM rejected its arguments ({config}): {why}",
    "correct the arguments after `--vllm` and start again",
    remedies.own_fault,
)

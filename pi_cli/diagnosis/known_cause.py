"""What a known failure is: how it is recognised, the cause in words, and what to do."""

from dataclasses import dataclass

from pi_cli.diagnosis.remedies import Remedy


@dataclass(frozen=True, slots=True)
class KnownCause:
    """A failure we recognise: a pattern, the cause in words, and a hint; both may name groups of the pattern.

    Where it is known what was typed, the `remedy` takes the place of the hint. `is_vague`: the message tells only what
    followed from something, which may be said elsewhere in the log.
    """

    pattern: str
    summary: str
    hint: str
    remedy: Remedy | None = None
    is_vague: bool = False


# For an error that is none of them: vLLM says why it refuses a setting on the lines that follow.
REFUSED_ARGUMENTS = KnownCause(
    r"validation errors? for (?P<config>\w+)\n\s*(?:Value error, )?(?P<why>(?s:.*?))\s*(?:\[type=|$)",
    "vLLM refused its arguments ({config}): {why}",
    "correct what follows `--vllm` and start again",
)

"""What the checks of `pi check` find."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; `passed` is None if it does not apply, or if only some models can do that.

    `hint` are vLLM arguments that would fix it; `seconds` is the duration of the check.
    """

    name: str
    passed: bool | None
    reason: str = ""
    hint: str = ""
    seconds: float = 0.0


class Finding(NamedTuple):
    """What a check has found; see `Check`."""

    passed: bool | None
    reason: str = ""
    hint: str = ""


OnCheck = Callable[[Check], None]


def is_fit(checks: Sequence[Check]) -> bool:
    return all(check.passed is not False for check in checks)

"""The results of `pi check`: one line per check, printed when it is done."""

from rich.text import Text

from pi_cli.models.check_findings import Check
from pi_cli.safe import safe
from pi_cli.view import terminal

MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}
NAME_WIDTH = 24  # columns


def show(check: Check) -> None:
    """Print a check: its result, its name, its duration and the reason."""
    reason = _reason(check)
    line = Text.assemble(MARKS[check.passed], " ", check.name.ljust(NAME_WIDTH), f"{check.seconds:5.1f} s")
    if reason:
        line.append(f"  {reason}")
    terminal.out().print(line, soft_wrap=True)


def as_json(check: Check) -> dict[str, object]:
    result = {"check": check.name, "passed": check.passed, "reason": _reason(check) or None, "hint": check.hint or None}
    return result | {"seconds": round(check.seconds, 2)}


def _reason(check: Check) -> str:
    """Return the reason, which may quote the model's server, on one line and without control characters."""
    return " ".join(safe(check.reason).split())

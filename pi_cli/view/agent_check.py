"""What `pi check` finds out: a line for each check, as it is done."""

from rich.text import Text

from pi_cli.models.agent_check import Check
from pi_cli.safe import safe
from pi_cli.view import terminal

MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}
WIDTH = 24  # of a check's name


def show(check: Check) -> None:
    """Print a check: what came of it, its name, how long it took, and why."""
    reason = " ".join(safe(check.reason).split())
    line = Text.assemble(MARKS[check.passed], " ", check.name.ljust(WIDTH), f"{check.seconds:5.1f} s")
    if reason:
        line.append(f"  {reason}")
    terminal.out().print(line, soft_wrap=True)


def as_json(check: Check) -> dict[str, object]:
    told = {"check": check.name, "passed": check.passed, "reason": check.reason or None, "hint": check.hint or None}
    return told | {"seconds": round(check.seconds, 2)}

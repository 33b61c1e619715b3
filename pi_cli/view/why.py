"""What `pi why` shows: the cause, the line of the log with its surroundings, and what to do."""

from typing import TYPE_CHECKING

from rich.text import Text

from pi_cli.view import columns, tables, terminal

if TYPE_CHECKING:
    from pi_cli.models.why import Explanation

MARK, NO_MARK = "> ", "  "


def show(explained: "Explanation") -> None:
    """Print an explanation."""
    console = terminal.out()
    name = f"`{explained.name}` on `{explained.pod}`"
    found, cause = explained.circumstances, explained.cause
    when = f" ({found.phase})" if found.phase else ""
    if cause:
        console.print(Text.assemble((f"{name} failed{when}: ", "bold"), (cause.summary, "bold red")), soft_wrap=True)
    elif explained.is_alive:
        console.print(Text(f"{name} is running; its log shows no failure{when}"), soft_wrap=True)
    elif explained.was_shut_down:
        console.print(Text(f"{name} was shut down; its log shows no failure"), soft_wrap=True)
    else:
        console.print(Text(f"{name} is not running, and its log does not show why{when}"), soft_wrap=True)
    if cause or not (explained.is_alive or explained.was_shut_down):
        console.print()
        for index, line in enumerate(found.context):
            is_cause = index == found.at
            style = "bold" if is_cause else "dim"
            text = (MARK if is_cause else NO_MARK) + line
            if console.is_terminal and not is_cause:
                text = columns.cut(text, console.width, tables.ellipsis(console.encoding))
            console.print(Text(text, style=style), soft_wrap=True)
    if found.memory and cause:
        console.print()
        console.print(Text(f"GPU memory: {'; '.join(found.memory)}"), soft_wrap=True)
    if cause and cause.hint:
        console.print()
        console.print(Text.assemble(("next: ", "bold"), cause.hint), soft_wrap=True)


def as_json(explained: "Explanation") -> dict[str, object]:
    """Return the fields of `pi why --json`."""
    cause, found = explained.cause, explained.circumstances
    return {
        "pod": explained.pod,
        "name": explained.name,
        "model": explained.model or None,
        "running": explained.is_alive,
        "cause": cause.summary if cause else None,
        "known": cause.is_known if cause else None,
        "line": cause.line if cause else None,
        "hint": cause.hint if cause else None,
        "phase": found.phase or None,
        "memory": list(found.memory),
        "context": list(found.context),
    }

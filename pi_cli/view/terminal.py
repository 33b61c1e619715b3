"""The two streams: data goes to stdout, everything said along the way to stderr."""

import json
import sys
from typing import TYPE_CHECKING, Any

from pi_cli.errors import BadUsage, ModelNotStarted, PiError, PodsFailed

if TYPE_CHECKING:  # rich takes longer to load than all else that a quick command does
    from rich.console import Console

WIDE = 10_000  # columns for what is not a terminal: nothing is wrapped or cut there


def out() -> "Console":
    """Return the console for data."""
    return _console(stderr=False)


def err() -> "Console":
    """Return the console for what is said along the way."""
    return _console(stderr=True)


def show_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def show_json_line(data: Any) -> None:
    """Print JSON on one line, at once: somebody reads along."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_error(error: PiError) -> None:
    """Print what happened, where in what was typed or in vLLM's own words, and what to do next, on stderr."""
    from rich.text import Text

    console = err()
    if isinstance(error, PodsFailed):
        for each in error.failures.values():
            show_error(each)
        return
    console.print(Text.assemble(("error:", "bold red"), " ", _plain(str(error))), soft_wrap=True)
    if isinstance(error, BadUsage):
        for line in error.excerpt.splitlines():
            console.print(Text("  " + _plain(line)), soft_wrap=True)
    if isinstance(error, ModelNotStarted):
        for line in error.log.splitlines():
            console.print(Text("  " + _plain(line), style="dim"), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("hint:", "bold cyan"), " ", _plain(error.hint)), soft_wrap=True)


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line on stdout; parts are texts, or (text, style)."""
    from rich.text import Text

    out().print(Text.assemble(*parts), soft_wrap=True)


def note(text: str, console: "Console | None" = None) -> None:
    """Print a line worth knowing on stderr; while a live view is drawn, through its console."""
    from rich.text import Text

    (console or err()).print(Text.assemble(("note:", "bold"), " ", _plain(text)), soft_wrap=True)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _plain(text: str) -> str:
    from pi_cli.safe import safe

    return safe(text, colour=False)

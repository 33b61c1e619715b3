"""The two streams: data goes to stdout, everything else to stderr."""

import json
import re
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from pi_cli import streams
from pi_cli.errors import BadUsage, ModelNotStarted, PiError, PodsFailed
from pi_cli.view import waiting

if TYPE_CHECKING:  # loading rich takes longer than everything else in a quick command
    from rich.console import Console

UNLIMITED_WIDTH = 10_000  # columns of a file or a pipe, where nothing is wrapped or truncated
DECIMALS = 4  # of numbers in JSON: GiB, shares and seconds are estimates, or measured less precisely

# Characters that `json.dumps` does not escape, although they can steer a terminal or cannot be encoded: DEL, C1,
# the bidirectional controls, lone surrogates. The C0 controls it escapes itself.
UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def out() -> "Console":
    """Return the console for data."""
    return _console(stderr=False)


def err() -> "Console":
    """Return the console for everything else: progress, notes, errors."""
    return _console(stderr=True)


def show_json(data: Any) -> None:
    """Print one JSON document, with numbers rounded to `DECIMALS`."""
    waiting.clear()
    sys.stdout.write(_json(_rounded(data), indent=2) + "\n")


def show_json_line(data: Any) -> None:
    """Print JSON on one line and flush: the reader waits for each line."""
    waiting.clear()
    sys.stdout.write(json_line(data))
    sys.stdout.flush()


def json_line(data: Any) -> str:
    return _json(data) + "\n"


def show_error(error: PiError) -> None:
    """Print an error on stderr: the message, the wrong place in the input or the end of vLLM's log, and the hint."""
    from rich.text import Text

    console = err()
    if isinstance(error, PodsFailed):
        for failure in error.failures.values():
            show_error(failure)
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


_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


def be_quiet() -> None:
    """From now on print results and errors only, and what a login asks of the user."""
    _is_quiet.set(True)
    waiting.stop()


def say(*parts: str | tuple[str, str]) -> None:
    """Print a line on stdout, from parts that are a text or (text, style)."""
    from rich.text import Text

    out().print(Text.assemble(*parts), soft_wrap=True)


def note(text: str, console: "Console | None" = None, *, is_needed: bool = False) -> None:
    """Print a note on stderr; while a live view is drawn, through its console."""
    from rich.text import Text

    if _is_quiet.get() and not is_needed:
        return
    (console or err()).print(Text.assemble(("note:", "bold"), " ", _plain(text)), soft_wrap=True)


def _rounded(data: Any) -> Any:
    match data:
        case float():
            return round(data, DECIMALS)
        case dict():
            return {key: _rounded(value) for key, value in data.items()}
        case list() | tuple():
            return [_rounded(value) for value in data]
    return data


def aside(*parts: str | tuple[str, str], console: "Console | None" = None) -> None:
    """Print a text on stderr that matters least: dim. While a live view is drawn, through its console."""
    from rich.text import Text

    if not _is_quiet.get():
        (console or err()).print(Text.assemble(*parts, style="dim"))


def next_step(text: str) -> None:
    """Print on stderr what to type next: a script has no use for it."""
    from rich.text import Text

    err().print(Text(_plain(text)), soft_wrap=True)


def _json(data: Any, *, indent: int | None = None) -> str:
    """Write data as JSON that cannot steer a terminal; letters of all languages stay readable, if stdout has them."""
    text = json.dumps(data, indent=indent, ensure_ascii=not streams.is_unicode(sys.stdout.encoding))
    return UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    waiting.clear()
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else UNLIMITED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _plain(text: str) -> str:
    from pi_cli.safe import safe

    return safe(text, colour=False)

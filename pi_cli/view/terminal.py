"""The two streams: data goes to stdout, everything else to stderr."""

import json
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from pi_cli import streams
from pi_cli.errors import BadUsage, ModelNotStarted, PiError, PodsFailed
from pi_cli.view import lines, waiting

if TYPE_CHECKING:  # loading rich takes longer than everything else in a quick command
    from rich.console import Console

DECIMALS = 4  # of numbers in JSON: GiB, shares and seconds are estimates, or measured less precisely

# Characters that `json.dumps` does not escape, although they can steer a terminal or cannot be encoded: DEL, C1,
# the bidirectional controls, lone surrogates. The C0 controls it escapes itself.
UNSAFE_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


Part = str | tuple[str, str]
Parts = Iterable[Part]


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
    if isinstance(error, PodsFailed):
        for failure in error.failures.values():
            show_error(failure)
        return
    shown: list[Parts] = [[("error:", "bold red"), " ", _plain(str(error))]]
    if isinstance(error, BadUsage):
        shown += [["  " + _plain(line)] for line in error.excerpt.splitlines()]
    if isinstance(error, ModelNotStarted):
        shown += [[("  " + _plain(line), "dim")] for line in error.log.splitlines()]
        if error.facts:
            shown.append([("note:", "bold"), " ", _plain(error.facts)])
    if error.hint:
        shown.append([("hint:", "bold cyan"), " ", _plain(error.hint)])
    _print(sys.stderr, *shown)


_is_quiet: ContextVar[bool] = ContextVar("is_quiet", default=False)


def be_quiet() -> None:
    """From now on print results and errors only, and what a login asks of the user."""
    _is_quiet.set(True)
    waiting.stop()


def say(*parts: Part) -> None:
    """Print a line on stdout, from parts that are a text or (text, style)."""
    _print(sys.stdout, parts)


def note(text: str, console: "Console | None" = None, *, is_needed: bool = False) -> None:
    """Print a note on stderr; while a live view is drawn, through its console."""
    if _is_quiet.get() and not is_needed:
        return
    parts = (("note:", "bold"), " ", _plain(text))
    if console is None:
        _print(sys.stderr, parts)
        return
    from rich.text import Text

    console.print(Text.assemble(*parts), soft_wrap=True)


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
    _print(sys.stderr, [_plain(text)])


def _print(stream: TextIO, *texts: "Parts") -> None:
    """Print texts, each of one line or several."""
    shown: list[lines.Line] = []
    for parts in texts:
        line: lines.Line = []
        for part in parts:
            text, style = (part, "") if isinstance(part, str) else part
            first, *others = text.split("\n")
            line.append((first, style))
            for other in others:
                shown.append(line)
                line = [(other, style)]
        shown.append(line)
    lines.write(stream, shown)


def _json(data: Any, *, indent: int | None = None) -> str:
    """Write data as JSON that cannot steer a terminal; letters of all languages stay readable, if stdout has them."""
    text = json.dumps(data, indent=indent, ensure_ascii=not streams.is_unicode(sys.stdout.encoding))
    return UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console

    waiting.clear()
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else lines.UNLIMITED
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _plain(text: str) -> str:
    from pi_cli.safe import safe

    return safe(text, colour=False)

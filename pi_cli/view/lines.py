"""Print lines in colours, without rich: loading it takes longer than everything else in a quick command.

What a terminal is and which styles it knows are decided as rich does, which draws the live views.
"""

import os
from collections.abc import Iterable
from typing import TextIO

from pi_cli.view import waiting

UNLIMITED = 10_000  # columns of a file or a pipe
# In the order of their codes, as rich writes them.
EFFECTS = {"bold": "1", "dim": "2"}
COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36"}
RESET = "\x1b[0m"
IGNORED = dict.fromkeys(map(ord, "\a\b\v\f\r"))

Line = list[tuple[str, str]]
"""(text, style) from left to right; a style is names of `EFFECTS` and `COLOURS`."""


def write(stream: TextIO, lines: Iterable[Iterable[tuple[str, str]]]) -> None:
    """Print lines, with escape sequences if the stream is a terminal that knows them."""
    waiting.clear()
    is_styled = is_terminal(stream) and not is_dumb()
    is_coloured = not os.environ.get("NO_COLOR")
    texts = (ansi(line, is_coloured=is_coloured) if is_styled else plain(line) for line in lines)
    stream.write("".join(f"{text.translate(IGNORED)}\n" for text in texts))
    stream.flush()


def plain(line: Iterable[tuple[str, str]]) -> str:
    return "".join(text for text, _ in line)


def ansi(line: Iterable[tuple[str, str]], *, is_coloured: bool) -> str:
    """Write a line with escape sequences for its styles; without colours, only bold and dim stay.

    >>> ansi([("error:", "bold red"), (" no", "")], is_coloured=True)
    '\\x1b[1;31merror:\\x1b[0m no'
    """
    known = EFFECTS | COLOURS if is_coloured else EFFECTS
    parts = []
    for text, style in line:
        code = ";".join(known[name] for name in style.split() if name in known)
        parts.append(f"\x1b[{code}m{text}{RESET}" if code and text.strip() else text)
    return "".join(parts)


def width(stream: TextIO) -> int:
    """Return the columns of a terminal; in a file or a pipe nothing is cut or wrapped."""
    if not stream.isatty():
        return UNLIMITED
    if (columns := os.environ.get("COLUMNS", "")).isdigit() and int(columns):
        return int(columns)
    for number in (stream.fileno(), 0, 1, 2):
        try:
            if columns_of_terminal := os.get_terminal_size(number).columns:
                return columns_of_terminal
        except OSError:
            continue
    return 80


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream knows escape sequences, or the user says that it does."""
    if (compatible := os.environ.get("TTY_COMPATIBLE")) in ("0", "1"):
        return compatible == "1"
    if (forced := os.environ.get("FORCE_COLOR")) is not None:
        return forced != ""
    return stream.isatty()


def is_interactive(stream: TextIO) -> bool:
    """Return whether a view can be drawn on a stream and removed again."""
    if (interactive := os.environ.get("TTY_INTERACTIVE")) in ("0", "1"):
        return interactive == "1"
    return is_terminal(stream) and not is_dumb()


def is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in ("dumb", "unknown")

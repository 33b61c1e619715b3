"""What `rg` prints, without the lines of files whose names do not show that they are credentials.

`rg` leaves out what the table of credentials names; what a file begins with, it cannot ask. So it ends the path at the
start of each line with a NUL, and each file that it shows is looked at once.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from os import fsdecode

from pi_cli.chat.access import Access

BARE = {"-I", "--no-filename"}
NAMES = {"-l", "--files-with-matches", "--files-without-match"}
COUNTS = {"-c", "--count", "--count-matches"}
LISTS = {"--files", "--type-list"}
SEPARATOR = re.compile(rb"\d+([:-])")  # behind a line's number: of a match, or of a line around it

IsClosed = Callable[[str], bool]


def marked(options: Sequence[str]) -> list[str]:
    """Return the options with which each line names its file, with a NUL behind the name if something follows."""
    is_marked = not (_has_names_only(options) or LISTS & set(options))
    return [*(option for option in options if option not in BARE), *(["--null"] if is_marked else [])]


def open_part(output: bytes, options: Sequence[str], access: Access) -> bytes:
    """Return the output as `rg` prints it with these options, without the lines of files that are closed."""
    if LISTS & set(options):
        return output  # the names in an open folder are open
    is_closed = cache(access.closes_file)
    if "--json" in options:
        lines = _of_json(output, is_closed)
    elif _has_names_only(options):
        lines = (line for line in output.split(b"\n") if not line or not is_closed(fsdecode(line)))
    else:
        lines = _of_text(output, options, is_closed)
    return b"\n".join(lines)


def _of_json(output: bytes, is_closed: IsClosed) -> Iterator[bytes]:
    for line in output.split(b"\n"):
        try:
            path = json.loads(line)["data"].get("path", {}).get("text")
        except ValueError:  # empty, or cut off
            continue
        if path is None or not is_closed(path):
            yield line


def _of_text(output: bytes, options: Sequence[str], is_closed: IsClosed) -> Iterator[bytes]:
    is_bare = _last(options, BARE | {"-H", "--with-filename"}) in BARE
    has_heading = _last(options, {"--heading", "--no-heading", "--vimgrep"}) == "--heading"
    shows = True
    for line in output.split(b"\n"):
        path, mark, rest = line.partition(b"\0")
        if not mark:  # of one file that was named, or more of the file before
            if shows:
                yield line
            continue
        shows = not is_closed(fsdecode(path))
        if not shows:
            continue
        if is_bare:
            yield rest
        elif has_heading:
            yield from (path, rest)
        else:
            separator = SEPARATOR.match(rest)
            yield path + (separator[1] if separator else b":") + rest


def _has_names_only(options: Sequence[str]) -> bool:
    return "--json" not in options and _last(options, NAMES | COUNTS) in NAMES


def _last(options: Sequence[str], choices: set[str]) -> str | None:
    return next((option for option in reversed(options) if option in choices), None)

"""`ls`, `read` and `glob`: plain blocking functions on the local file system. They only read, and always return.

What they may read is decided by `access`; without one, only the working directory is open. Each checks a `stop` event
as it works: it runs in a thread, and a thread cannot be cancelled.
"""

import fnmatch
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import BinaryIO

from pi_cli.chat.access import Access
from pi_cli.chat.paths import tool_errors
from pi_cli.chat.schema import ToolError

MAX_LINES = 2000
MAX_CHARACTERS = 100_000
MAX_LINE = 2000  # bytes that are shown of a line
MAX_ENTRIES = 200_000  # visited by one call
MAX_PATTERN = 500  # characters
MAX_ALTERNATIVES = 100
MAX_SECONDS = 10.0

# `**` does not search these, unless the pattern names them.
SKIPPED = frozenset({".git", ".hg", ".svn", ".tox", ".venv", "__pycache__", "node_modules", "venv"})


def ls(path: str, ignore: Sequence[str] = (), *, cwd: Path, stop: Event, access: Access | None = None) -> str:
    """List a directory: one name per line, `/` after directories, `->` and the target after symlinks."""
    access = access or Access(cwd)
    directory = access.locate(path)
    with tool_errors(directory), access.opened(directory, directory=True) as descriptor:
        entries, has_more = list_entries(descriptor, stop)
        listed = [entry for entry in entries if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignore)]
        if not listed:
            return "(all entries are ignored)" if entries else "(an empty directory)"
        lines, left_out = limited(describe(entry, descriptor) for entry in listed)
    if left_out is not None or has_more:
        count = f"{len(listed)}{' or more' if has_more else ''}"
        lines.append(f"[{len(lines)} of {count} entries shown; use `glob` to select]")
    return "\n".join(lines)


def list_entries(directory: int, stop: Event) -> tuple[list[os.DirEntry[str]], bool]:
    """Return the first `MAX_ENTRIES` entries of a directory, sorted by name, and whether there are more."""
    entries = []
    with os.scandir(directory) as scan:
        for entry in itertools.islice(scan, MAX_ENTRIES):
            if stop.is_set():
                break
            entries.append(entry)
        has_more = next(scan, None) is not None
    return sorted(entries, key=lambda entry: entry.name), has_more


def describe(entry: os.DirEntry[str], directory: int) -> str:
    try:
        if entry.is_symlink():
            return f"{entry.name} -> {os.readlink(entry.name, dir_fd=directory)}"
        return f"{entry.name}/" if entry.is_dir() else entry.name
    except OSError:  # deleted in the meantime
        return entry.name


def limited(lines: Iterable[str]) -> tuple[list[str], str | None]:
    """Take as many lines as fit one tool result; return them, and the first line left out, if any."""
    fitting: list[str] = []
    characters_left = MAX_CHARACTERS
    for line in lines:
        characters_left -= len(line) + 1
        if len(fitting) == MAX_LINES or characters_left < 0:
            return fitting, line
        fitting.append(line)
    return fitting, None


def read(
    file_path: str, offset: int = 1, limit: int = MAX_LINES, *, cwd: Path, stop: Event, access: Access | None = None
) -> str:
    """Return at most `limit` lines of a text file, from line `offset` on (the first is 1)."""
    access = access or Access(cwd)
    path = access.locate(file_path)
    first = max(offset, 1)
    is_over = search_limit(stop, max_entries=None)
    with tool_errors(path), access.opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        if b"\0" in file.read(8192):
            size = os.fstat(file.fileno()).st_size
            raise ToolError(f"{file_path} is a binary file of {size} bytes, not text")
        file.seek(0)
        numbered_lines = enumerate(lines_of(file, is_over), start=1)
        from_offset = itertools.dropwhile(lambda numbered: numbered[0] < first, numbered_lines)
        lines, left_out = limited(line for _, line in itertools.islice(from_offset, max(limit, 1)))
        has_more = left_out is not None or next(from_offset, None) is not None
        if is_over():
            raise ToolError(f"{file_path} is too long to read that far in {MAX_SECONDS:.0f} s: search it with `rg`")
        if not lines:
            file.seek(0)
            count = sum(1 for _ in lines_of(file, is_over))
            return f"({file_path} has {count} lines, none from {first} on)" if count else "(an empty file)"
    if has_more:
        last = first + len(lines) - 1
        lines.append(f"[lines {first} to {last}; for more, use offset={last + 1}]")
    return "\n".join(lines)


def lines_of(file: BinaryIO, is_over: Callable[[], bool]) -> Iterator[str]:
    """Yield lines as text, truncated to `MAX_LINE` bytes; at most that much of a line is in memory."""
    while (line := file.readline(MAX_LINE)) and not is_over():
        left_out = 0
        piece = line
        while not piece.endswith(b"\n") and (piece := file.readline(MAX_LINE)) and not is_over():
            left_out += len(piece)
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield f"{text} […{left_out} more bytes in this line]" if left_out else text


def glob(pattern: str, path: str = ".", *, cwd: Path, stop: Event, access: Access | None = None) -> str:
    """Find files by a pattern with `*`, `?`, `[…]`, `{a,b}` and `**`, sorted by path."""
    access = access or Access(cwd)
    base = access.locate(path, is_search=True)
    with tool_errors(base), access.opened(base, directory=True):
        pass
    is_over = search_limit(stop)
    matches = (
        match
        for alternative in expand_braces(pattern)
        for root, segments in [split_pattern(alternative, base)]
        for match in files_below(access.locate(str(root), is_search=True).resolve(), segments, is_over, access.hides)
    )
    lines, left_out = limited(sorted(set(itertools.islice(matches, MAX_LINES + 1))))
    if not lines:
        lines.append(
            "no file matches" if "**" in pattern else "no file matches (start with `**/` to search below, too)"
        )
    if left_out is not None or is_over():
        lines.append("[there may be more: narrow the pattern or the path]")
    return "\n".join(lines)


def expand_braces(pattern: str) -> list[str]:
    """Expand the braces of a pattern.

    >>> expand_braces("*.{py,md}")
    ['*.py', '*.md']
    """
    if not pattern.strip("/") or len(pattern) > MAX_PATTERN:
        raise ToolError(f"a pattern has 1 to {MAX_PATTERN} characters")

    def expanded(text: str) -> Iterator[str]:
        if brace := re.search(r"\{([^{}]*)\}", text):
            for choice in brace[1].split(","):
                yield from expanded(text[: brace.start()] + choice + text[brace.end() :])
        else:
            yield text

    return list(itertools.islice(expanded(pattern), MAX_ALTERNATIVES))


def split_pattern(pattern: str, base: Path) -> tuple[Path, list[str]]:
    """Split a pattern into the directory to start in and the segments to match below it.

    >>> split_pattern("/srv/data/**/*.json", Path("/home"))
    (PosixPath('/srv/data'), ['**', '*.json'])
    """
    segments = [segment for segment in Path(pattern).expanduser().parts if segment != "/"]
    root = Path("/") if pattern.startswith(("/", "~")) else base
    while len(segments) > 1 and not re.search(r"[*?\[]", segments[0]):
        root /= segments.pop(0)
    return root, segments


def files_below(
    root: Path, segments: list[str], is_over: Callable[[], bool], is_hidden: Callable[[os.DirEntry[str]], bool]
) -> Iterator[str]:
    """Walk the directories that can contain a match. Symlinks to directories are not followed: they may form cycles."""
    pending = [(str(root), skip_double_stars(segments, {0}))]
    while pending:
        directory, states = pending.pop()
        for entry in readable_entries(directory):
            if is_over():
                return
            next_states = match_name(segments, states, entry.name)
            if not next_states or is_hidden(entry):
                continue
            if is_directory(entry):
                if next_states - {len(segments)} and is_searched(entry.name, segments):
                    pending.append((entry.path, next_states))
            elif len(segments) in next_states:
                yield entry.path


def readable_entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as scan:
            return list(itertools.islice(scan, MAX_ENTRIES))
    except OSError:  # no permission, or deleted: the search continues without it
        return []


def is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def is_searched(name: str, segments: list[str]) -> bool:
    return name not in SKIPPED or name in segments


def match_name(segments: list[str], states: set[int], name: str) -> set[int]:
    """Return the states of a pattern after one more name. All states advance together, so that no pattern takes long.

    A state is the number of segments matched; `**` keeps its state for any number of names.
    """
    next_states = set()
    for state in states - {len(segments)}:
        if segments[state] == "**":
            next_states.add(state)
        elif fnmatch.fnmatchcase(name, segments[state]):
            next_states.add(state + 1)
    return skip_double_stars(segments, next_states)


def skip_double_stars(segments: list[str], states: set[int]) -> set[int]:
    """Add the states that are reached if `**` matches nothing."""
    reached = set(states)
    for state, segment in enumerate(segments):
        if state in reached and segment == "**":
            reached.add(state + 1)
    return reached


def search_limit(stop: Event, *, max_entries: int | None = MAX_ENTRIES) -> Callable[[], bool]:
    """Return a function that is True once one call was stopped, took `MAX_SECONDS`, or asked it `max_entries` times."""
    deadline = time.monotonic() + MAX_SECONDS
    entries_left: Iterator[int] = itertools.count() if max_entries is None else iter(range(max_entries))
    return lambda: stop.is_set() or time.monotonic() > deadline or next(entries_left, None) is None

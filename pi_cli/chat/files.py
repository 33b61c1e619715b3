"""`ls`, `read` and `glob`: plain blocking functions over the local file system, which only look and always end.

Each gets a `stop` event and looks at it as it goes: it runs in a thread, and a thread cannot be cancelled.
"""

import fnmatch
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import BinaryIO

from pi_cli.chat.paths import explained, is_closed, locate
from pi_cli.chat.schema import ToolError

MAX_LINES = 2000
MAX_CHARACTERS = 100_000
MAX_LINE = 2000
MAX_ENTRIES = 200_000  # looked at by one call
MAX_PATTERN = 500
MAX_ALTERNATIVES = 100
MAX_SECONDS = 10.0

# Nobody means these by `**`; a pattern that names one gets it.
SKIPPED = frozenset({".git", ".hg", ".svn", ".tox", ".venv", "__pycache__", "node_modules", "venv"})


def ls(path: str, ignore: Sequence[str] = (), *, cwd: Path, stop: Event) -> str:
    """List a directory: one name a line, `/` after directories, an arrow after symlinks."""
    place = locate(path, cwd)
    with explained(place):
        entries, more = entries_of(place, stop)
        shown = [entry for entry in entries if not any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignore)]
        if not shown:
            return "(everything in it is ignored)" if entries else "(an empty directory)"
        lines, left = bounded(described(entry) for entry in shown)
    if left is not None or more:
        count = f"{len(shown)}{' or more' if more else ''}"
        lines.append(f"[{len(lines)} of {count} entries shown; use `glob` for the ones you mean]")
    return "\n".join(lines)


def entries_of(directory: Path, stop: Event) -> tuple[list[os.DirEntry[str]], bool]:
    """Return the entries of a directory by name, and whether there are more than we look at."""
    entries = []
    with os.scandir(directory) as found:
        for entry in itertools.islice(found, MAX_ENTRIES):
            if stop.is_set():
                break
            entries.append(entry)
        more = next(found, None) is not None
    return sorted(entries, key=lambda entry: entry.name), more


def described(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_symlink():
            return f"{entry.name} -> {Path(entry).readlink()}"
        return f"{entry.name}/" if entry.is_dir() else entry.name
    except OSError:  # it went away meanwhile
        return entry.name


def bounded(lines: Iterable[str]) -> tuple[list[str], str | None]:
    """Take as many lines as a model should get at once, and return the first one left out, if any."""
    taken: list[str] = []
    room = MAX_CHARACTERS
    for line in lines:
        room -= len(line) + 1
        if len(taken) == MAX_LINES or room < 0:
            return taken, line
        taken.append(line)
    return taken, None


def read(file_path: str, offset: int = 1, limit: int = MAX_LINES, *, cwd: Path, stop: Event) -> str:
    """Show a text file from line `offset` (the first is 1), `limit` lines at most."""
    place = locate(file_path, cwd)
    first = max(offset, 1)
    is_over = patience(stop, most=None)
    with explained(place), open_regular(place) as file:
        if b"\0" in file.read(8192):
            size = os.fstat(file.fileno()).st_size
            raise ToolError(f"{file_path} is a binary file of {size} bytes, not text")
        file.seek(0)
        text = enumerate(lines_of(file, is_over), start=1)
        wanted = itertools.dropwhile(lambda numbered: numbered[0] < first, text)
        lines, left = bounded(line for _, line in itertools.islice(wanted, max(limit, 1)))
        more = left is not None or next(wanted, None) is not None
        if is_over():
            raise ToolError(f"{file_path} is too long to read that far in {MAX_SECONDS:.0f} s: search it with `rg`")
        if not lines:
            file.seek(0)
            count = sum(1 for _ in lines_of(file, is_over))
            return f"({file_path} has {count} lines; none from {first} on)" if count else "(an empty file)"
    if more:
        last = first + len(lines) - 1
        lines.append(f"[lines {first} to {last}; there is more: read on with offset={last + 1}]")
    return "\n".join(lines)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, and nothing else: a FIFO would block for ever, a device might act."""
    kind = path.stat()
    if stat.S_ISDIR(kind.st_mode):
        raise IsADirectoryError(path)
    if not stat.S_ISREG(kind.st_mode):
        raise ToolError(f"{path} is not a regular file")
    return path.open("rb")


def lines_of(file: BinaryIO, is_over: Callable[[], bool]) -> Iterator[str]:
    """Read lines as text, cutting overlong ones, without ever holding more than a piece of one."""
    while (line := file.readline(MAX_LINE)) and not is_over():
        cut = 0
        last = line
        while not last.endswith(b"\n") and (last := file.readline(MAX_LINE)) and not is_over():
            cut += len(last)
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        yield f"{text} […{cut} bytes more in this line]" if cut else text


def glob(pattern: str, path: str = ".", *, cwd: Path, stop: Event) -> str:
    """Find files by a pattern with `*`, `?`, `[…]`, `{a,b}` and `**`, sorted by path."""
    base = locate(path, cwd)
    with explained(base):
        os.scandir(base).close()
    is_over = patience(stop)
    found = (
        match
        for one in alternatives(pattern)
        for root, segments in [anchored(one, base)]
        for match in files_below(root, segments, is_over)
    )
    lines, left = bounded(sorted(set(itertools.islice(found, MAX_LINES + 1))))
    if not lines:
        lines.append("no file matches" if "**" in pattern else "no file matches (`**/` in front looks below, too)")
    if left is not None or is_over():
        lines.append("[there may be more: narrow the pattern or the path]")
    return "\n".join(lines)


def alternatives(pattern: str) -> list[str]:
    """Write out the braces of a pattern.

    >>> alternatives("*.{py,md}")
    ['*.py', '*.md']
    """
    if not pattern.strip("/") or len(pattern) > MAX_PATTERN:
        raise ToolError(f"a pattern has 1 to {MAX_PATTERN} characters")

    def written_out(text: str) -> Iterator[str]:
        if brace := re.search(r"\{([^{}]*)\}", text):
            for choice in brace[1].split(","):
                yield from written_out(text[: brace.start()] + choice + text[brace.end() :])
        else:
            yield text

    return list(itertools.islice(written_out(pattern), MAX_ALTERNATIVES))


def anchored(pattern: str, base: Path) -> tuple[Path, list[str]]:
    """Divide a pattern into the directory it starts in and the segments to match below.

    >>> anchored("/srv/data/**/*.json", Path("/home"))
    (PosixPath('/srv/data'), ['**', '*.json'])
    """
    segments = [segment for segment in Path(pattern).expanduser().parts if segment != "/"]
    root = Path("/") if pattern.startswith(("/", "~")) else base
    while len(segments) > 1 and not re.search(r"[*?\[]", segments[0]):
        root /= segments.pop(0)
    return locate(str(root), base), segments


def files_below(root: Path, segments: list[str], is_over: Callable[[], bool]) -> Iterator[str]:
    """Walk the directories that can hold a match. Symlinks to directories are not followed: they may go in circles."""
    pending = [(str(root), onward(segments, {0}))]
    while pending:
        directory, states = pending.pop()
        for entry in readable_entries(directory):
            if is_over():
                return
            after = step(segments, states, entry.name)
            if is_directory(entry):
                if after - {len(segments)} and not is_closed(entry.path) and is_meant(entry.name, segments):
                    pending.append((entry.path, after))
            elif len(segments) in after:
                yield entry.path


def readable_entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(itertools.islice(found, MAX_ENTRIES))
    except OSError:  # not ours to read, or gone: a search goes on without it
        return []


def is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def is_meant(name: str, segments: list[str]) -> bool:
    return name not in SKIPPED or name in segments


def step(segments: list[str], states: set[int], name: str) -> set[int]:
    """Return how far a pattern is matched after one more name; all ways at once, so that no pattern takes long.

    A state is the number of segments matched; `**` stays where it is for as many names as it likes.
    """
    after = set()
    for state in states - {len(segments)}:
        if segments[state] == "**":
            after.add(state)
        elif fnmatch.fnmatchcase(name, segments[state]):
            after.add(state + 1)
    return onward(segments, after)


def onward(segments: list[str], states: set[int]) -> set[int]:
    """Add the states reached by letting `**` stand for nothing."""
    reached = set(states)
    for state, segment in enumerate(segments):
        if state in reached and segment == "**":
            reached.add(state + 1)
    return reached


def patience(stop: Event, *, most: int | None = MAX_ENTRIES) -> Callable[[], bool]:
    """Return what says when one call has looked at enough entries, for long enough, or was stopped."""
    deadline = time.monotonic() + MAX_SECONDS
    left: Iterator[int] = itertools.count() if most is None else iter(range(most))
    return lambda: stop.is_set() or time.monotonic() > deadline or next(left, None) is None

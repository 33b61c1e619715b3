"""Hard links: a credential may have a second name, which does not look like one.

Only the inode of a file tells that. So the credentials of the user's home are looked at, once a file with more than one
name is read.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from pi_cli.chat.credentials import Credentials

MAX_ENTRIES = 20_000  # looked at; the caches of a browser have more, deep below what matters
PARENTS = (".", ".config", ".cache", ".local/share", ".local/state", "Library", "Library/Application Support")

Inode = tuple[int, int]


def of_credentials(credentials: Credentials, home: Path) -> frozenset[Inode]:
    """Return the inodes of the credentials of a home that have more than one name."""
    entries = _below(deque(_closed_in(credentials, home)))
    return frozenset(inode for path in entries if (inode := _linked(path)))


def _closed_in(credentials: Credentials, home: Path) -> Iterator[str]:
    """Yield the files and folders of credentials in the usual folders of a home, and those in other places."""
    yield from credentials.places
    for folder in PARENTS:
        yield from (entry.path for entry in _entries(str(home / folder)) if credentials.has(entry.path))


def _below(pending: deque[str]) -> Iterator[str]:
    """Yield all paths in some folders, those nearest to the top first; links are not followed."""
    left = MAX_ENTRIES
    while pending and left:
        left -= 1
        path = pending.popleft()
        if _is(path, stat.S_ISDIR):
            pending.extend(entry.path for entry in _entries(path))
        else:
            yield path


def _entries(folder: str) -> "list[os.DirEntry[str]]":
    with suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _is(path: str, kind: Callable[[int], bool]) -> bool:
    with suppress(OSError, ValueError):
        return kind(os.lstat(path).st_mode)
    return False


def _linked(path: str) -> Inode | None:
    """Return the inode of a regular file that has more than one name."""
    with suppress(OSError, ValueError):
        found = os.lstat(path)
        if stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            return found.st_dev, found.st_ino
    return None

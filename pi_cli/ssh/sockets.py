"""The folder for a unix socket that is forwarded to a pod: private, and with a path short enough for a socket."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pi_cli.errors import BadUsage

LONGEST_PATH = 103  # bytes of a socket's path (`sun_path`) on macOS; Linux allows 107
PREFIX, RANDOM, NAME = "pi-", 8, "pod"  # of the folder, as `tempfile` makes it, and of the socket
FALLBACK = "/tmp"  # noqa: S108 - the folder in it is made by `tempfile`, for this user only


@contextmanager
def path() -> Iterator[Path]:
    """Make a folder for a socket, and yield the socket's path; the folder is deleted with the block.

    It is in the folder for temporary files, or in /tmp where that folder's own path is too long. Raises `BadUsage` if
    it cannot be made.
    """
    try:
        parent = tempfile.gettempdir()
        if len(os.fsencode(parent)) + len(f"/{PREFIX}/{NAME}") + RANDOM > LONGEST_PATH:
            parent = FALLBACK
        folder = tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent)
    except OSError as error:
        raise BadUsage(
            f"cannot make a folder for a socket: {error}",
            hint="set `TMPDIR` to a folder that you may write to",
        ) from error
    with folder:
        yield Path(folder.name, NAME)


def require() -> None:
    """Check that a socket can be made, before a model is loaded for which it is needed; errors as of `path`."""
    with path():
        pass

"""Where the tools may look, and what a model is told about a path that it cannot have."""

import difflib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pi_cli.chat.schema import ToolError

# Reading these tells other processes' secrets (`/proc/*/environ`), never ends, or makes a device do something.
CLOSED = ("/proc", "/sys", "/dev")


def locate(path: str, cwd: Path) -> Path:
    """Make a path from a model absolute, taking a relative one from `cwd`.

    Raises ToolError for what lies in the kernel's own trees, also behind symlinks.
    """
    with explained(path):
        place = os.path.normpath(cwd / Path(path).expanduser())
        if is_closed(place) or is_closed(os.path.realpath(place)):
            raise ToolError(f"{path} cannot be looked at: {', '.join(CLOSED)} are closed to tools")
    return Path(place)


def is_closed(place: str) -> bool:
    return any(place == tree or place.startswith(f"{tree}/") for tree in CLOSED)


@contextmanager
def explained(path: str | Path) -> Iterator[None]:
    """Turn every way the file system can refuse into words that help the model to go on."""
    try:
        yield
    except FileNotFoundError as error:
        raise ToolError(f"no such file or directory: {path}{advice(Path(path))}") from error
    except NotADirectoryError as error:
        raise ToolError(f"{path} is not a directory (`read` shows files)") from error
    except IsADirectoryError as error:
        raise ToolError(f"{path} is a directory (`ls` lists it)") from error
    except PermissionError as error:
        raise ToolError(f"permission denied: {path}") from error
    except OSError as error:
        raise ToolError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RuntimeError) as error:  # a NUL or a lone surrogate in it, `~nobody`
        raise ToolError(f"{path!r} is not a usable path: {error}") from error


def advice(missing: Path) -> str:
    """Say how far a missing path exists, and which names there are like the one asked for."""
    for child, parent in itertools.pairwise([missing, *missing.parents]):
        if parent.is_absolute() and parent.is_dir() and os.access(parent, os.R_OK):
            similar = difflib.get_close_matches(child.name, names_in(parent), n=3)
            if similar:
                return f"; did you mean {', '.join(str(parent / name) for name in similar)}?"
            return f"; {parent} exists, but has no `{child.name}`"
    return ""


def names_in(directory: Path, *, at_most: int = 10_000) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in itertools.islice(entries, at_most)]

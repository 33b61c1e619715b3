"""The errors of the file system, in words that help a model to continue."""

import difflib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pi_cli.chat.schema import ToolError


@contextmanager
def tool_errors(path: str | Path) -> Iterator[None]:
    """Turn every error of the file system into a ToolError that helps the model to continue."""
    try:
        yield
    except FileNotFoundError as error:
        raise ToolError(f"no such file or directory: {path}{suggestion(Path(path))}") from error
    except NotADirectoryError as error:
        raise ToolError(f"{path} is not a directory (use `read` for files)") from error
    except IsADirectoryError as error:
        raise ToolError(f"{path} is a directory (use `ls`)") from error
    except PermissionError as error:
        raise ToolError(f"permission denied: {path}") from error
    except OSError as error:
        raise ToolError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RuntimeError) as error:  # a NUL or a lone surrogate in it, `~nobody`
        raise ToolError(f"{path!r} is not a usable path: {error}") from error


def suggestion(missing: Path) -> str:
    """Return which parent of a missing path exists, or the names in there that are similar to the missing one."""
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

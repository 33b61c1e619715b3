"""What pi does, for bug reports: with `PI_DEBUG=1` on stderr and in `logs/last.log`; a bug is written there anyway."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pi_cli import __version__
from pi_cli.errors import Bug, PiError
from pi_cli.safe import safe_line
from pi_cli.store import paths

BEGAN = time.monotonic()
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
SHORTEST_SECRET = 8  # characters; what is shorter would be found everywhere
_files: dict[Path, int] = {}


def is_on() -> bool:
    return os.environ.get("PI_DEBUG", "") not in ("", "0")


def note(what: str) -> None:
    """Write a line if debugging is on: seconds since pi began, and what it does."""
    if not is_on():
        return
    line = f"{time.monotonic() - BEGAN:8.3f}  {safe_line(redacted(what))}\n"
    with suppress(OSError):
        sys.stderr.write(f"debug: {line}")
        sys.stderr.flush()
    _write(line)


def listen() -> None:
    """Write what the libraries log, too: requests over HTTP with their status, logins."""
    import logging

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(f"{record.name}: {record.getMessage()}")

    if is_on():
        logging.basicConfig(handlers=[Notes()], level=logging.INFO)


def bug(error: BaseException, doing: str = "") -> Bug:
    """Return the error to show for an exception that nothing handles, and write its traceback to the log."""
    import traceback

    trace = "".join(traceback.format_exception(error))
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    _write(f"\n{f'While {doing}: ' if doing else ''}{redacted(trace)}")
    if is_on():
        with suppress(OSError):
            sys.stderr.write(redacted(trace))
    return Bug(f"{type(error).__name__}: {redacted(str(error))}".removesuffix(": "), doing=doing, log=str(log_file()))


@contextmanager
def bugs_as_errors(doing: str) -> Iterator[None]:
    """Turn an exception that nothing handles into a `Bug`, so that it ends the work on one pod only."""
    try:
        yield
    except PiError:
        raise
    except Exception as error:
        raise bug(error, doing) from error


def log_file() -> Path:
    return paths.config_dir() / "logs" / "last.log"


def redacted(text: str) -> str:
    """Return a text with `[NAME]` in place of the value of each secret in the environment."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST_SECRET and any(word in name.upper() for word in SECRET_NAMES):
            text = text.replace(value, f"[{name}]")
    return text


def _write(text: str) -> None:
    """Append to the log, which is begun anew by each run that writes to it; a full disk costs the log only."""
    path = log_file()
    with suppress(OSError):
        if path not in _files:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            _files[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            command = " ".join(word for word in sys.argv[1:3] if word.replace("-", "").isalnum())
            python = ".".join(map(str, sys.version_info[:3]))
            text = f"pi {__version__} on {sys.platform}, Python {python}: pi {command}\n{text}"
        os.write(_files[path], text.encode("utf-8", "replace"))

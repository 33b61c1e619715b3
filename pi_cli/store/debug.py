"""The debug log for bug reports: with `PI_DEBUG=1` on stderr and in `logs/last.log`; bugs are always written there."""

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

STARTED_AT = time.monotonic()
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
MIN_SECRET_LENGTH = 8  # characters; shorter values may be part of any text
_files: dict[Path, int] = {}
_hidden: dict[str, str] = {}


def is_on() -> bool:
    return os.environ.get("PI_DEBUG", "") not in ("", "0")


def note(text: str) -> None:
    """Write a line if debugging is on: the seconds since pi was started, and the text without secrets."""
    if not is_on():
        return
    line = f"{time.monotonic() - STARTED_AT:8.3f}  {safe_line(redacted(text))}\n"
    with suppress(OSError):
        sys.stderr.write(f"debug: {line}")
        sys.stderr.flush()
    _write(line)


def log_libraries() -> None:
    """Also write the log messages of libraries: HTTP requests with their status, logins."""
    import logging

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(f"{record.name}: {record.getMessage()}")

    if is_on():
        logging.basicConfig(handlers=[Notes()], level=logging.INFO)


def bug(error: BaseException, activity: str = "") -> Bug:
    """Return the error to show for an exception that nothing handles, and write its traceback to the log."""
    import traceback

    trace = "".join(traceback.format_exception(error))
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    _write(f"\n{f'While {activity}: ' if activity else ''}{redacted(trace)}")
    if is_on():
        with suppress(OSError):
            sys.stderr.write(redacted(trace))
    return Bug(
        f"{type(error).__name__}: {redacted(str(error))}".removesuffix(": "), activity=activity, log=str(log_file())
    )


@contextmanager
def bugs_as_errors(activity: str) -> Iterator[None]:
    """Turn an exception that nothing handles into a `Bug`, so that it ends the work on one pod only."""
    try:
        yield
    except PiError:
        raise
    except Exception as error:
        raise bug(error, activity) from error


def log_file() -> Path:
    return paths.config_dir() / "logs" / "last.log"


def hide(name: str, secret: str) -> None:
    """Leave a secret out of the log that is not in the environment."""
    _hidden[secret] = name


def redacted(text: str) -> str:
    """Return a text with `[NAME]` in place of the value of each secret in the environment, and of each hidden one."""
    secrets = {value: name for name, value in os.environ.items() if any(part in name.upper() for part in SECRET_NAMES)}
    for value, name in (_hidden | secrets).items():
        if len(value) >= MIN_SECRET_LENGTH:
            text = text.replace(value, f"[{name}]")
    return text


def _write(text: str) -> None:
    """Append to the log; the first write of a run replaces the previous log. Errors of the disk are ignored."""
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

"""Call the user back when a wait of over a minute ends: a bell on the terminal, and the command in `PI_NOTIFY`."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from pi_cli import units
from pi_cli.errors import PiError
from pi_cli.view import terminal

LONG = 60.0  # seconds; after a shorter wait, the user is still looking
VARIABLE = "PI_NOTIFY"
BELL = "\a"
# Terminals that show the text of OSC 9 as a notification. Inside of tmux and screen, which do not pass it on,
# `TERM_PROGRAM` is another.
WITH_MESSAGES = {"iTerm.app", "WezTerm", "ghostty"}
SECRETS = ("PI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")  # none of these is of use to a notification

Event = Literal["start", "setup"]
Result = Literal["ready", "failed"]


@contextmanager
def afterwards(
    event: Event, pods: Sequence[str], model: str = "", *, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Call the user if the block took long and ended by itself; after Ctrl+C, the user is there already."""
    began = clock()
    try:
        yield
    except PiError:
        call(event, "failed", pods, model, clock() - began)
        raise
    call(event, "ready", pods, model, clock() - began)


def call(event: Event, result: Result, pods: Sequence[str], model: str, seconds: float) -> None:
    """Ring the bell and run the user's command, if the wait was long."""
    if seconds <= LONG:
        return
    text = message(result, pods, model, seconds)
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        sys.stderr.write(bell(text, os.environ))
        sys.stderr.flush()
    if command := os.environ.get(VARIABLE, "").strip():
        about = {"EVENT": event, "RESULT": result, "POD": " ".join(pods), "MODEL": model, "SECONDS": f"{seconds:.0f}"}
        _run(command, text, {f"{VARIABLE}_{name}": value for name, value in about.items()})


def message(result: Result, pods: Sequence[str], model: str, seconds: float) -> str:
    """Say what has ended, in names that the user has chosen: no text of a pod is in it.

    >>> message("ready", ["dc1"], "q", 192)
    'pi: q on dc1 is ready (3m12s)'
    >>> message("failed", ["dc1"], "", 75)
    'pi: setup of dc1 has failed (1m15s)'
    """
    what = f"{model} on {', '.join(pods)}" if model else f"setup of {', '.join(pods)}"
    outcome = "has failed" if result == "failed" else "is ready" if model else "is done"
    return f"pi: {what} {outcome} ({units.age(seconds)})"


def bell(text: str, environ: Mapping[str, str]) -> str:
    """Return what makes a terminal call the user: a notification, or just the bell."""
    has_messages = environ.get("TERM_PROGRAM") in WITH_MESSAGES and not environ.get("TMUX")
    printable = "".join(character for character in text if character.isprintable())
    return f"\x1b]9;{printable}{BELL}" if has_messages else BELL


def _run(command: str, text: str, about: Mapping[str, str]) -> None:
    """Run the user's command, without a shell, with the text as its last argument; do not wait for it."""
    environ = {name: value for name, value in os.environ.items() if name not in SECRETS} | dict(about)
    null = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in range(3)]
    try:
        words = [*shlex.split(command), text]
        os.posix_spawnp(words[0], words, environ, file_actions=null, setpgroup=0)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        terminal.note(f"{VARIABLE} could not be run: {reason}")

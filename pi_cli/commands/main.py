"""`pi`: what the user types, and the one place where errors are printed."""

import errno
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from pi_cli import interrupts
from pi_cli.commands import quick
from pi_cli.errors import PiError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of a stream: where it leads to is full, or broken


def main() -> NoReturn:
    """Run pi. Errors end here: one line what happened, one what to do, and the exit code of their class."""
    ended_by: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        """End as Ctrl+C does, with clean-up: the terminal was closed, or somebody wants us gone."""
        del frame
        ended_by.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    words = sys.argv[1:]
    if words[:1] == ["--debug"]:
        os.environ["PI_DEBUG"] = "1"
        del words[0]
    if os.environ.get("PI_DEBUG"):
        from pi_cli.store import debug

        debug.listen()
    try:
        if not quick.answer(words):
            _run(words)
    except PiError as error:
        _fail(error)
    except BrokenPipeError:  # who reads our output has gone
        sys.exit(1)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            _fail(_bug(error))
        _fail(PiError(f"the output could not be written: {error.strerror}"))
    except SystemExit as end:
        interrupts.leave_at_once()
        sys.exit(128 + ended_by[0] if ended_by else end.code)
    except Exception as error:  # noqa: BLE001 - the user gets one line and the file to report, not a traceback
        _fail(_bug(error))
    sys.exit(0)


def _bug(error: Exception) -> PiError:
    interrupts.leave_at_once()
    from pi_cli.store import debug

    return debug.bug(error)


def _fail(error: PiError) -> NoReturn:
    interrupts.leave_at_once()
    from pi_cli.view import terminal

    terminal.show_error(error)
    sys.exit(error.exit_code)


def _run(words: list[str]) -> None:
    from pi_cli.commands.app import app
    from pi_cli.ssh import passphrases

    passphrases.keyring.set(passphrases.Keyring(ask=_ask))
    interrupts.clean_up()
    app(args=open_vllm_arguments(words), prog_name="pi")


async def _ask(question: str) -> str:
    from pi_cli.view import questions

    return await questions.ask_secret(question) if questions.can_ask() else ""


def open_vllm_arguments(words: list[str]) -> list[str]:
    """Put `--` after the `--vllm` of `pi start`: all that follows is vLLM's, whatever it looks like.

    >>> open_vllm_arguments(["start", "m", "--vllm", "--name", "x"])
    ['start', 'm', '--vllm', '--', '--name', 'x']
    """
    if words[:1] != ["start"] or "--vllm" not in words:
        return words
    at = words.index("--vllm") + 1
    return [*words[:at], "--", *words[at:]]

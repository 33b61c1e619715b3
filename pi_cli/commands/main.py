"""The entry point of `pi`, and the only place where errors are printed."""

import errno
import os
import signal
import sys
from typing import NoReturn

from pi_cli import interrupts
from pi_cli.commands import other_words, quick
from pi_cli.errors import PiError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # of an output stream: its disk is full or broken

FIRST_OPTIONS = {"--debug": "PI_DEBUG", "--no-color": "NO_COLOR"}  # before the command: the variable that each sets


def main() -> NoReturn:
    """Run pi; print an error as one line, with a hint, and exit with the code of its class."""
    arguments = sys.argv[1:]
    while arguments and (variable := FIRST_OPTIONS.get(arguments[0])):
        os.environ[variable] = "1"
        del arguments[0]
    if os.environ.get("CLICOLOR_FORCE", "0") != "0":
        os.environ.setdefault("FORCE_COLOR", "1")
    if os.environ.get("PI_DEBUG"):
        from pi_cli.store import debug

        debug.log_libraries()
    try:
        arguments = other_words.without_aliases(arguments)
        if not quick.answer(arguments, _prepare):
            _run(arguments)
    except PiError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of stdout has exited
        sys.exit(interrupts.exit_code(1))
    except OSError as error:
        if interrupts.received:  # the terminal that was closed cannot be written to
            sys.exit(interrupts.exit_code())
        if error.errno not in UNWRITABLE or error.filename is not None:
            _fail(_bug(error))
        _fail(PiError(f"the output could not be written: {error.strerror}"))
    except KeyboardInterrupt:  # Typer does the same
        interrupts.leave_at_once()
        sys.exit(interrupts.exit_code(128 + signal.SIGINT))
    except SystemExit as leaving:
        interrupts.leave_at_once()
        sys.exit(interrupts.exit_code(leaving.code))
    except Exception as error:  # noqa: BLE001 - one line and the file to report instead of a traceback
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
    sys.exit(interrupts.exit_code(error.exit_code))


def _run(arguments: list[str]) -> None:
    from typer.main import get_command

    from pi_cli.commands import usage_errors
    from pi_cli.commands.app import app

    if "_PI_COMPLETE" in os.environ:
        from typer._completion_classes import completion_init

        completion_init()
    command = get_command(app)
    _prepare()
    arguments = keep_separator(separate_vllm_arguments(arguments))
    try:
        code = command.main(args=arguments, prog_name="pi", standalone_mode=False)
    except usage_errors.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(error.exit_code)
        raise usage_errors.worded(error, arguments) from error
    sys.exit(code if isinstance(code, int) else 0)


def _prepare() -> None:
    """Set who asks and what shows waits and notes while a command runs; from now on, Ctrl+C cleans up."""
    from pi_cli.ssh import passphrases, speaker
    from pi_cli.view import waiting

    passphrases.keyring.set(passphrases.Keyring(ask=_ask))
    speaker.speaker.set(speaker.Speaker(_note))
    waiting.install()
    interrupts.clean_up()


async def _ask(question: str) -> str:
    from pi_cli.view import questions

    return await questions.ask_secret(question) if questions.can_ask() else ""


def _note(text: str) -> None:
    from pi_cli.view import questions

    questions.show_note(text)


def separate_vllm_arguments(arguments: list[str]) -> list[str]:
    """Put `--` after the `--vllm` of `pi start`: what follows is for vLLM, even if it looks like an option of pi.

    >>> separate_vllm_arguments(["start", "m", "--vllm", "--name", "x"])
    ['start', 'm', '--vllm', '--', '--name', 'x']
    """
    if arguments[:1] != ["start"] or "--vllm" not in arguments:
        return arguments
    end = arguments.index("--vllm") + 1
    return [*arguments[:end], "--", *arguments[end:]]


def keep_separator(arguments: list[str]) -> list[str]:
    """Double a `--` of `pi run` with no model before it: Typer takes one, and the command sees that none is named.

    >>> keep_separator(["run", "--pod", "dc1", "--", "ls"]), keep_separator(["run", "q", "--", "ls"])
    (['run', '--pod', 'dc1', '--', '--', 'ls'], ['run', 'q', '--', 'ls'])
    """
    if arguments[:1] != ["run"]:
        return arguments
    words = iter(enumerate(arguments[1:], start=1))
    for index, word in words:
        if word == "--":
            return [*arguments[:index], word, *arguments[index:]]
        if word in ("-p", "--pod"):
            next(words, None)
        elif not word.startswith("-"):
            break
    return arguments

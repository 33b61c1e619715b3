"""`pi`: what the user types, and the one place where errors are printed."""

import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer

from pi_cli import __version__, interrupts
from pi_cli.commands import catalogue, demo, pods
from pi_cli.commands.check import check
from pi_cli.commands.env import env
from pi_cli.commands.forward import forward
from pi_cli.commands.listing import list_models
from pi_cli.commands.logs import logs
from pi_cli.commands.prompt import prompt
from pi_cli.commands.run import run
from pi_cli.commands.shell import shell
from pi_cli.commands.start import start
from pi_cli.commands.stop import stop
from pi_cli.errors import PiError
from pi_cli.pods import passphrases
from pi_cli.view import questions

app = typer.Typer(
    help="Turn a rented GPU machine into a private, OpenAI-compatible vLLM endpoint.",
    epilog="Documentation and examples: README.md. Exit codes: docs/errors.md.",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich help takes twice as long to come
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(pods.app, name="pods")
app.command()(start)
app.command("list")(list_models)
app.command("models")(catalogue.models)
app.command()(stop)
app.command()(logs)
app.command()(prompt)
app.command(context_settings={"allow_interspersed_args": False})(run)
app.command()(env)
app.command()(forward)
app.command()(check)
app.command("ssh", context_settings={"allow_interspersed_args": False})(shell)
app.command()(demo.demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pi {__version__}")
        raise typer.Exit


@app.callback()
def pi(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn a rented GPU machine into a private, OpenAI-compatible vLLM endpoint."""
    del version


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
    if questions.can_be_asked():
        passphrases.keyring.set(passphrases.Keyring(ask=questions.ask_secretly))
    try:
        interrupts.clean_up()
        app(args=open_vllm_arguments(sys.argv[1:]), prog_name="pi")
    except PiError as error:
        interrupts.leave_at_once()
        from pi_cli.view import terminal

        terminal.show_error(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        interrupts.leave_at_once()
        sys.exit(128 + ended_by[0] if ended_by else end.code)
    sys.exit(0)


def open_vllm_arguments(words: list[str]) -> list[str]:
    """Put `--` after the `--vllm` of `pi start`: all that follows is vLLM's, whatever it looks like.

    >>> open_vllm_arguments(["start", "m", "--vllm", "--name", "x"])
    ['start', 'm', '--vllm', '--', '--name', 'x']
    """
    if words[:1] != ["start"] or "--vllm" not in words:
        return words
    at = words.index("--vllm") + 1
    return [*words[:at], "--", *words[at:]]

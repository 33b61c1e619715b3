"""`pi key …`: the API key of the models that pi starts, in a file of this machine."""

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import options
from pi_cli.commands.lazy import Group, PlainCommand
from pi_cli.commands.options import AsJson
from pi_cli.errors import BadUsage, PiError
from pi_cli.hints import fill
from pi_cli.store import keys

app = typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False, invoke_without_command=True)

HOW_TO_GIVE = "`pi key set` asks for the key on a terminal, or reads it from stdin: `pi key set < FILE`"

Force = Annotated[bool, typer.Option("--force", help="Replace the key in the file.")]
NotAnArgument = Annotated[list[str] | None, typer.Argument(hidden=True)]


@app.callback()
def key(context: typer.Context) -> None:
    """Make, show and keep the API key of your models.

    Models that pi starts require a key. It is in the variable PI_API_KEY or, if that is not set, in `~/.pi/key` (in
    the folder PI_CONFIG_DIR, if that is set), which only you can read. A model keeps the key that it was started with.

    \b
    Examples:
      pi key new
      export OPENAI_API_KEY=$(pi key show)
      printenv PI_API_KEY | pi key set
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=PlainCommand)
def new(force: Force = False, as_json: AsJson = False) -> None:
    """Make a new key and keep it in `~/.pi/key`.

    The key is random (32 bytes), and is not printed. If the file has a key already, it is kept: models that are running
    know only that one.

    \b
    Examples:
      pi key new
      pi key new --force
    """
    _keep(keys.make(), "made a key, which is in `{file}`", force=force, as_json=as_json)


@app.command(cls=PlainCommand)
def show(as_json: AsJson = False) -> None:
    """Print the key on stdout, and nothing else.

    It is the key that commands use: that in PI_API_KEY, or else that in `~/.pi/key`. stderr says which. With `--json`,
    only where it is, not the key.

    \b
    Examples:
      pi key show
      export OPENAI_API_KEY=$(pi key show)
    """
    from pi_cli.view import terminal

    current = options.api_key()
    if as_json:
        terminal.show_json({"api_key_env": None if current.file else current.variable, "api_key_file": current.file})
        return
    typer.echo(current.value)
    terminal.note(f"the key in {current.origin}")


@app.command("set", cls=PlainCommand)
def set_key(words: NotAnArgument = None, force: Force = False, as_json: AsJson = False) -> None:
    """Keep your own key in `~/.pi/key`.

    On a terminal it is asked for and not shown; otherwise it is read from stdin. It has 8 characters or more: ASCII
    letters, digits and punctuation. pi takes no key as an argument: other users can see those.

    \b
    Examples:
      pi key set
      printenv PI_API_KEY | pi key set
    """
    if words:
        raise BadUsage("the key cannot be an argument: other users of this machine can see arguments", hint=HOW_TO_GIVE)
    value = _typed() if sys.stdin and sys.stdin.isatty() else _piped()
    if not value:
        raise BadUsage("no key was given", hint=HOW_TO_GIVE)
    _keep(
        keys.checked_to_keep(value, "the key", hint=HOW_TO_GIVE), "the key is in `{file}`", force=force, as_json=as_json
    )


def _typed() -> str:
    from pi_cli.view import questions

    try:
        return interrupts.run(questions.ask_secret("API key (not shown): ")).strip()
    except OSError as error:
        raise BadUsage("there is no terminal to ask for the key on", hint=HOW_TO_GIVE) from error


def _piped() -> str:
    """Read the key from stdin, without a byte order mark and white space around it."""
    data = sys.stdin.buffer.read(2 * keys.LONGEST) if sys.stdin else b""
    return data.decode("utf-8-sig", "replace").strip()


def _keep(value: str, done: str, *, force: bool, as_json: bool) -> None:
    """Write the key, and say where it is and what does not use it."""
    from pi_cli.view import terminal

    before = None
    with suppress(PiError):
        before = keys.in_file()
    path = str(keys.keep(value, force=force))
    models = _started_with(path) if before and before.value != value else []
    if as_json:
        replaced = before is not None and before.value != value
        terminal.show_json({"api_key_file": path, "replaced": replaced, "models_with_old_key": models})
    else:
        terminal.say(fill(f"{done}; only you can read it", file=path))
    if os.environ.get(keys.VARIABLE) not in (None, "", value):
        terminal.note(f"{keys.VARIABLE} is set to another key, which takes precedence: `unset {keys.VARIABLE}`")
    if models:
        quoted = ", ".join(f"`{model}`" for model in models)
        terminal.note(f"these models keep the old key until they are started again: {quoted}")


def _started_with(file: str) -> list[str]:
    """Return the models on pi's list whose key was in a file."""
    from pi_cli.store import state

    with suppress(PiError):
        return [f"{pod}/{name}" for pod, name, model in state.load().models() if model.key_file == file]
    return []

"""`pi pods …`: set up, list, activate, rename and remove pods."""

import os
from typing import Annotated

import typer

from pi_cli.commands import pods_list
from pi_cli.commands.lazy import Group, PlainCommand
from pi_cli.commands.options import AsJson, NamesOnly, PodName, Wide
from pi_cli.commands.pods_remove import remove
from pi_cli.commands.pods_rename import rename
from pi_cli.commands.pods_setup import setup
from pi_cli.commands.pods_unlink import unlink
from pi_cli.commands.setup_words import SetupCommand
from pi_cli.hints import fill
from pi_cli.store import state

app = typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False)

Check = Annotated[bool, typer.Option("--check", help="Compare every pod with what pi has recorded; change nothing.")]


@app.callback(invoke_without_command=True)
def pods(
    context: typer.Context,
    check: Check = False,
    wide: Wide = False,
    quiet: NamesOnly = False,
    as_json: AsJson = False,
) -> None:
    """Set up, list, check, activate, rename and remove pods.

    Without a command, lists the pods from local state. `ls`, `add`, `use`, `mv` and `rm` are list, setup, active,
    rename and remove.

    \b
    Examples:
      pi pods
      pi pods --check
      pi pods setup dc1 "ssh root@1.2.3.4"
      pi pods active dc1
    """
    if context.invoked_subcommand is None:
        pods_list.show(check=check, as_json=as_json, wide=wide, quiet=quiet)


@app.command("list", cls=PlainCommand)
def list_pods(
    context: typer.Context,
    check: Check = False,
    wide: Wide = False,
    quiet: NamesOnly = False,
    as_json: AsJson = False,
) -> None:
    """List the pods from local state; `*` marks the active one, or that in PI_POD.

    A pod takes one line. On a narrow terminal, the ssh command is shortened to USER@HOST:PORT, and the storage and the
    version of vLLM are left out; `--wide` shows all, as a file or a pipe has it.

    With `--check`, pi asks all pods at once and shows whether each answers, the GPU memory in use, the running models
    and the free disk space. For each difference from what pi has recorded it shows the command to run. Nothing is
    changed, on this machine or on a pod; if a pod does not answer, the exit code is 3.

    \b
    Examples:
      pi pods list
      pi pods list --check
      pi pods list --json
    """
    group = context.parent.params if context.parent else {}  # the options before `list`
    own = {"check": check, "as_json": as_json, "wide": wide, "quiet": quiet}
    pods_list.show(**{name: value or bool(group.get(name)) for name, value in own.items()})


app.command(cls=SetupCommand)(setup)


@app.command(cls=PlainCommand)
def active(name: PodName, as_json: AsJson = False) -> None:
    """Make a pod the active one, which commands use by default. `pi use NAME` does the same.

    PI_POD, if it is set to the name of a pod, counts more than the active one, and `--pod` and POD/NAME more than both.

    \b
    Examples:
      pi pods active dc2
    """
    from pi_cli.view import terminal

    with state.edit() as current:
        current.pod(name)
        before, current.active = current.active, name
    if as_json:
        terminal.show_json({"active": name, "was": before})
    else:
        terminal.say(f"`{name}` is the active pod")
    if (chosen := os.environ.get(state.POD_VARIABLE)) not in (None, "", name):
        text = "{variable} is set to `{chosen}`, which counts more: `unset {variable}`"
        terminal.note(fill(text, variable=state.POD_VARIABLE, chosen=str(chosen)))


app.command(cls=PlainCommand)(rename)
app.command(cls=PlainCommand)(remove)
app.command(cls=PlainCommand)(unlink)

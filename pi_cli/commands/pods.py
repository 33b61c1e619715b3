"""`pi pods …`: the machines."""

from typing import Annotated

import typer

from pi_cli.commands import pods_list
from pi_cli.commands.options import AsJson, PodName
from pi_cli.commands.pods_remove import remove
from pi_cli.commands.pods_setup import setup
from pi_cli.store import state

app = typer.Typer(rich_markup_mode=None, add_completion=False)

Check = Annotated[bool, typer.Option("--check", help="Ask every pod how it is, and compare; nothing is changed by it.")]


@app.callback(invoke_without_command=True)
def pods(context: typer.Context, check: Check = False, as_json: AsJson = False) -> None:
    """Set up, list, check, choose and forget pods.

    Without a command: the list of pods, from local state.

    \b
    Examples:
      pi pods
      pi pods --check
      pi pods setup dc1 "ssh root@1.2.3.4"
      pi pods active dc1
    """
    if context.invoked_subcommand is None:
        pods_list.show(check=check, as_json=as_json)


@app.command("list")
def list_pods(context: typer.Context, check: Check = False, as_json: AsJson = False) -> None:
    """List the pods from local state; `*` marks the active one.

    With `--check` every pod is asked, all at once: whether it answers, the GPU memory in use, what runs, the disk
    left, and what is not as pi remembers it, each with the command that mends it. Nothing is changed, here or there,
    and a pod that does not answer is kept; the exit code is 3 then.

    \b
    Examples:
      pi pods list
      pi pods list --check
      pi pods list --json
    """
    before = context.parent.params if context.parent else {}
    pods_list.show(check=check or bool(before.get("check")), as_json=as_json or bool(before.get("as_json")))


app.command()(setup)


@app.command()
def active(name: PodName) -> None:
    """Make a pod the one that commands act on.

    \b
    Examples:
      pi pods active dc2
    """
    from pi_cli.view import terminal

    with state.edit() as current:
        current.pod(name)
        current.active = name
    terminal.say(f"`{name}` is the active pod")


app.command()(remove)

"""`pi pods unlink`: close the connections to pods that pi keeps for the next command."""

from typing import Annotated

import typer

from pi_cli.commands.names import complete_pod
from pi_cli.commands.options import AsJson
from pi_cli.store import settings, state


def unlink(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name of the pod; else all.", autocompletion=complete_pod)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Close the connection to a pod that pi keeps after a command, or all of them.

    After a command on a terminal, pi stays connected to its pods for five minutes, so that the next command need not
    log in. `pi pods` shows which pods are linked. To have no such connections at all, write `seconds = 0` under
    `[hold]` into `~/.pi/config.toml`, or set PI_HOLD=0.

    \b
    Examples:
      pi pods unlink dc1
      pi pods unlink
    """
    from pi_cli.hold import client
    from pi_cli.view import terminal

    settings.seconds_held()  # where a broken file is said
    if name is not None:
        state.load().pod(name)
    unlinked = client.unlink(None if name is None else [name])
    if as_json:
        terminal.show_json({"unlinked": unlinked})
    elif unlinked:
        for each in unlinked:
            terminal.say(f"closed the connection to `{each}`")
    else:
        terminal.note(f"`{name}` is not linked" if name else "no pod is linked")

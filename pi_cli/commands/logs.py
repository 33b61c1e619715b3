"""`pi logs`: what vLLM prints."""

import asyncio
from typing import Annotated

import typer

from pi_cli.commands.options import OnPod, complete_model, point_to_other_pod
from pi_cli.errors import BadUsage
from pi_cli.store import state


def logs(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the model.", autocompletion=complete_model)],
    pod: OnPod = None,
    lines: Annotated[
        str, typer.Option("--lines", "-n", help="How many last lines to begin with; `all` for all.")
    ] = "100",
    follow: Annotated[bool, typer.Option(help="Go on as the log grows.")] = True,
) -> None:
    """Show and follow what vLLM prints.

    The last lines, then what comes. Ctrl+C ends the watching, never vLLM.

    \b
    Examples:
      pi logs qwen72b
      pi logs qwen72b -n all --no-follow > qwen72b.log
    """
    if lines != "all" and not lines.isdecimal():
        raise BadUsage(f"`{lines}` is not a number of lines", hint="give a number, or `all`")
    current = state.load()
    where = current.select([pod] if pod else [])
    if not pod:
        point_to_other_pod(current, where, name)
    from pi_cli.models import logs as models
    from pi_cli.pods import login
    from pi_cli.view import logs as view
    from pi_cli.view import terminal

    async def tail() -> bool:
        [(on, chosen)] = where.items()
        async with login.connect(on, chosen.ssh, connect_timeout=chosen.connect_timeout) as session:
            count = "+1" if lines == "all" else lines
            return await models.follow(session, name, lines=count, follow=follow, sink=view.sink())

    was_alive = asyncio.run(tail())
    if follow:
        terminal.note(f"`{name}` has ended" if was_alive else f"`{name}` does not run; this is its last log")

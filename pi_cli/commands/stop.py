"""`pi stop`: end models and free their GPUs."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands.options import OnPods, complete_model, point_to_other_pod
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.pods.ssh import PodSession


def stop(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Names of models.", autocompletion=complete_model)
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="All models of the pods acted on.")] = False,
    pod: OnPods = None,
) -> None:
    """Stop models and free their GPUs.

    All their processes are ended, and seen to be gone.

    \b
    Examples:
      pi stop qwen72b
      pi stop --all --pod dc2
    """
    if bool(names) == every:
        raise BadUsage("name the models to stop, or give `--all`", hint="see them with `pi list`")
    current = state.load()
    where = current.select(pod or [])
    for name in (names or []) if not pod else []:
        point_to_other_pod(current, where, name)
    from pi_cli.models import listing, stopping
    from pi_cli.pods import fleet
    from pi_cli.view import terminal

    outcomes: list[tuple[str, str, str]] = []

    async def end(session: "PodSession") -> None:
        chosen = names or await listing.running_names(session)
        told = await stopping.stop(session, chosen)
        outcomes.extend((session.pod, name, how) for name, how in told.items())

    failures = asyncio.run(fleet.on_each(where, end))
    for on, name, how in sorted(outcomes):
        known = name in where[on].models
        match how:
            case "stopped":
                terminal.say(f"stopped `{name}` on `{on}`")
            case "killed":
                terminal.say(f"stopped `{name}` on `{on}`: it ignored SIGTERM and was killed")
            case _ if known:
                terminal.say(f"`{name}` on `{on}` was already gone")
            case _:
                failures.setdefault(
                    on, PiError(f"there is no model `{name}` on `{on}`", hint="see them with `pi list`")
                )
    if every and not outcomes and not failures:
        terminal.note(f"nothing runs on {', '.join(where)}")
    raise_any(failures)

"""`pi list`: models as they are on their pods now."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import PiError, raise_any
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.listing import Listed
    from pi_cli.pods.ssh import PodSession


def list_models(
    pod: OnPods = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="The models of all pods.")] = False,
    check: Annotated[bool, typer.Option(help="Ask the pods; without, what pi remembers.")] = True,
    as_json: AsJson = False,
) -> None:
    """List models as they are on their pods now.

    With port, GPUs, PID, status and endpoint.

    A model found running that pi did not know is added; one that no longer runs is forgotten, and said so.

    \b
    Examples:
      pi list
      pi list --all --json
    """
    where = state.load().select(pod or [], every=every)
    from pi_cli.models import listing
    from pi_cli.view import tables, terminal

    listed, failures = _survey(where) if check else ([], {})
    for each in failures if check else where:
        status = "unreachable" if check else "unchecked"
        listed += [
            listing.Listed(each, name, model, status, listing.endpoint(where[each].ssh, model.port))
            for name, model in where[each].models.items()
        ]
    listed.sort(key=lambda one: (list(where).index(one.pod), one.name))
    if as_json:
        terminal.show_json([_as_json(one) for one in listed])
    elif listed:
        tables.show_models(listed)
    elif not failures:
        terminal.note(f"no models on {', '.join(where)}; start one with `pi start MODEL --name NAME`")
    raise_any(failures)


def _survey(where: Mapping[str, Pod]) -> "tuple[list[Listed], dict[str, PiError]]":
    """Ask all pods at once; return the models found, and the pods that did not answer."""
    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    listed: list[Listed] = []
    with progress.following(where) as report:

        async def look(session: "PodSession") -> None:
            listed.extend(await listing.survey(session, where[session.pod].ssh, report))

        return listed, asyncio.run(fleet.on_each(where, look))


def _as_json(listed: "Listed") -> dict[str, object]:
    now = {
        "status": listed.status,
        "age_seconds": None if listed.age is None else round(listed.age),
        "url": listed.url,
        "answers_from_here": listed.answers_here,
    }
    return options.as_json(listed.pod, listed.name, listed.model) | now

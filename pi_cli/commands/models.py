"""`pi list`, `pi stop`, `pi logs`: models that run."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import AsJson, OnPod, OnPods, complete_model
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.deploy import Listed
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
    from pi_cli.models import deploy
    from pi_cli.view import tables, terminal

    listed, failures = _survey(where) if check else ([], {})
    for each in failures if check else where:
        status = "unreachable" if check else "unchecked"
        listed += [
            deploy.Listed(each, name, model, status, deploy.endpoint(where[each].ssh, model.port))
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
        _point_to_other_pod(current, where, name)
    from pi_cli.models import deploy
    from pi_cli.pods import fleet
    from pi_cli.view import terminal

    outcomes: list[tuple[str, str, str]] = []

    async def end(session: "PodSession") -> None:
        chosen = names or await deploy.running_names(session)
        told = await deploy.stop(session, chosen)
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
        _point_to_other_pod(current, where, name)
    from pi_cli.models import deploy
    from pi_cli.pods import login
    from pi_cli.view import logs as view
    from pi_cli.view import terminal

    async def tail() -> bool:
        [(on, chosen)] = where.items()
        async with login.connect(on, chosen.ssh, connect_timeout=chosen.connect_timeout) as session:
            count = "+1" if lines == "all" else lines
            return await deploy.logs(session, name, lines=count, follow=follow, sink=view.sink())

    was_alive = asyncio.run(tail())
    if follow:
        terminal.note(f"`{name}` has ended" if was_alive else f"`{name}` does not run; this is its last log")


def _survey(where: Mapping[str, Pod]) -> "tuple[list[Listed], dict[str, PiError]]":
    """Ask all pods at once; return the models found, and the pods that did not answer."""
    from pi_cli.models import deploy
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    listed: list[Listed] = []
    with progress.following(where) as report:

        async def look(session: "PodSession") -> None:
            listed.extend(await deploy.survey(session, where[session.pod].ssh, report))

        return listed, asyncio.run(fleet.on_each(where, look))


def _point_to_other_pod(current: state.State, where: Mapping[str, object], name: str) -> None:
    """Say where a model is when the active pod has none of that name and another one has."""
    elsewhere = [pod for pod, each, _ in current.models() if each == name]
    if elsewhere and not set(elsewhere) & set(where):
        raise BadUsage(
            f"`{name}` is not on the active pod", hint=f"it is on `{elsewhere[0]}`: add `--pod {elsewhere[0]}`"
        )


def _as_json(listed: "Listed") -> dict[str, object]:
    now = {
        "status": listed.status,
        "age_seconds": None if listed.age is None else round(listed.age),
        "url": listed.url,
        "answers_from_here": listed.answers_here,
    }
    return options.as_json(listed.pod, listed.name, listed.model) | now

"""`pi down`: stop the models of a fleet file, and with `--purge` remove its pods."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import fleet_options, gateway_members
from pi_cli.commands.fleet_options import FilePath, FleetNames
from pi_cli.commands.options import AsJson
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.hints import fill
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.fleet.changes import Reality
    from pi_cli.models.stopping import Stopped
    from pi_cli.ssh.session import PodSession

Purge = Annotated[
    bool,
    typer.Option("--purge", help="Also delete what pi has put on the machines, as `pi pods remove --purge` does."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="With `--purge`: do not ask.")]


def down(
    names: FleetNames = None,
    file: FilePath = Path(fleet_options.DEFAULT),
    purge: Purge = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Stop the models of a fleet file, and no others.

    With `--purge`, pi also deletes what setup and starts have put on the file's pods, and removes the pods from its
    list. It shows what and how much, and asks. A pod on which other models run is not purged.

    The machines keep running: end them at their provider.

    \b
    Examples:
      pi down
      pi down qwen
      pi down dc1 --purge
    """
    from pi_cli.fleet import changes
    from pi_cli.fleet import file as fleet_file

    fleet = fleet_file.load(file)
    pods, chosen = changes.selected(fleet, names or [])
    places = changes.parts(fleet, chosen)
    if purge and (models := [name for name in names or [] if name in fleet.models]):
        raise BadUsage(f"`--purge` takes names of pods, and `{models[0]}` is a model", hint="leave it out")
    recorded = {name: pod for name, pod in state.load().pods.items() if name in pods}
    reality = fleet_options.ask(recorded, recorded)
    if purge:
        _purge(reality, places, yes=yes, as_json=as_json)
    else:
        _stop(reality, places, as_json=as_json)


def _stop(reality: "Reality", places: Collection[tuple[str, str]], *, as_json: bool) -> None:
    from pi_cli.view import terminal

    failures: dict[str, PiError] = dict(reality.failures)
    stopped = _stop_models(reality, places, failures)
    rows = [
        {"pod": pod, "name": name, "outcome": outcome, "pod_freed_mib": result.freed}
        for pod, result in stopped.items()
        for name, outcome in sorted(result.outcome.items())
    ]
    if as_json:
        terminal.show_json(rows)
    for row in rows if not as_json else ():
        terminal.say(f"stopped `{row['name']}` on `{row['pod']}`")
    if not rows and not failures and not as_json:
        terminal.note("none of the file's models is running")
    raise_any(failures)


def _running(reality: "Reality", places: Collection[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the models of the file that run, by pod."""
    found: dict[str, list[str]] = {}
    for pod, running in reality.running.items():
        if names := [model.name for model in running if (pod, model.name) in places]:
            found[pod] = names
    return found


def _stop_models(
    reality: "Reality", places: Collection[tuple[str, str]], failures: dict[str, PiError]
) -> "dict[str, Stopped]":
    from pi_cli.models import stopping
    from pi_cli.pods import fleet

    running = _running(reality, places)
    results: dict[str, Stopped] = {}

    async def stop_on(session: "PodSession") -> None:
        results[session.pod] = await stopping.stop(session, running[session.pod])
        stopping.require_success(session.pod, results[session.pod])

    pods: Mapping[str, Pod] = {name: reality.recorded[name] for name in running}

    async def stop_all() -> dict[str, PiError]:
        async with gateway_members.leaving([(pod, name) for pod, names in running.items() for name in names]):
            return await fleet.on_each(pods, stop_on)

    failures |= interrupts.run(stop_all())
    return {name: results[name] for name in running if name in results}


def _purge(reality: "Reality", places: Collection[tuple[str, str]], *, yes: bool, as_json: bool) -> None:
    """Ask once, then stop, purge and remove each pod; a pod that did not answer stays as it is."""
    from pi_cli.commands import pods_purge, pods_remove
    from pi_cli.view import terminal

    failures: dict[str, PiError] = dict(reality.failures)
    for name, running in reality.running.items():
        others = [f"`{model.name}`" for model in running if (name, model.name) not in places]
        if others:
            hint = fill("stop them first: `pi stop --all --pod {name}`", name=name)
            reason = f"`{name}` was not purged: it runs models that are not in the file: {', '.join(others)}"
            failures[name] = PiError(reason, hint=hint)
    pods = {name: reality.recorded[name] for name in reality.running if name not in failures}
    if pods:
        pods_purge.confirm(pods, stop=True, models=False, yes=yes)
        answered = {name: reality.running[name] for name in pods}
        _stop_models(replace(reality, running=answered), places, failures)
        free = {name: state.load().pod(name) for name in pods if name not in failures}
        removed = pods_remove.purged(free, failures, is_quiet=as_json)
        if as_json:
            terminal.show_json(removed)
    elif as_json:
        terminal.show_json([])
    raise_any(failures)

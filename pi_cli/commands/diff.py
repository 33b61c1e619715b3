"""`pi diff`: compare a fleet file, its lock and what runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import fleet_options
from pi_cli.commands.fleet_options import FilePath, FleetNames
from pi_cli.commands.options import AsJson, Wide
from pi_cli.errors import raise_any
from pi_cli.store import state

if TYPE_CHECKING:
    from pi_cli.errors import PiError
    from pi_cli.fleet.compare import Row
    from pi_cli.fleet.file import FleetFile
    from pi_cli.fleet.lock import Lock
    from pi_cli.fleet.reality import PodFacts, Reality
    from pi_cli.ssh.session import PodSession

All = Annotated[bool, typer.Option("--all", "-a", help="Show what is the same too.")]


def diff(
    names: FleetNames = None,
    file: FilePath = Path(fleet_options.DEFAULT),
    everything: All = False,
    wide: Wide = False,
    as_json: AsJson = False,
) -> None:
    """Compare a fleet file, its lock and what runs.

    Asks the pods of the file, changes nothing, and shows one row for each thing that differs: what the file asks for,
    what `pi up --lock` has written, what runs, and where an argument comes from. A side that says nothing about
    it is empty; `-` means that it is not there. Without a lock, only the file and what runs are compared.

    The exit code is 0 if nothing differs, and 1 if something does, as with diff.

    \b
    Examples:
      pi diff
      pi diff dc1 --all
      pi diff qwen --json
    """
    from pi_cli.fleet import compare
    from pi_cli.fleet import file as fleet_file
    from pi_cli.fleet import lock as locks
    from pi_cli.view import comparison as view
    from pi_cli.view import terminal

    fleet = fleet_file.load(file)
    path = locks.beside(file)
    lock = locks.read(path)
    running, failures = look(fleet, names or [])
    rows = [row for row in compare.rows(fleet, lock, running, _set_up(fleet)) if _is_meant(fleet, row, names or [])]
    differing = [row for row in rows if row.differs]
    if as_json:
        terminal.show_json(
            {
                "file": str(file),
                "lock": str(path) if lock else None,
                "same": not differing and not failures,
                "rows": view.as_json(rows if everything else differing),
            }
        )
    else:
        if shown := rows if everything else differing:
            view.show(shown, has_lock=lock is not None, is_wide=wide)
        _say(fleet, lock, path, is_same=not differing and not failures)
    raise_any(failures)
    if differing:
        raise typer.Exit(1)


def look(fleet: "FleetFile", names: Sequence[str]) -> "tuple[Reality, dict[str, PiError]]":
    """Ask those pods of a file that are set up; return what they say, and the errors of those that did not answer."""
    from pi_cli.fleet import changes, reality
    from pi_cli.pods import fleet as pods

    recorded = state.load().pods
    meant, _ = changes.selected(fleet, names)
    asked = {name: recorded[name] for name in fleet.pods if name in meant and name in _set_up(fleet)}
    running: dict[str, PodFacts] = {}

    async def look_at(session: "PodSession") -> None:
        running[session.pod] = await reality.look(session, asked[session.pod])

    failures = interrupts.run(pods.on_each(asked, look_at))
    return {name: running[name] for name in asked if name in running}, failures


def _set_up(fleet: "FleetFile") -> set[str]:
    """Return the pods of a file that are set up at the address that it has."""
    from pi_cli.fleet import changes

    recorded = state.load().pods
    return {name for name, pod in fleet.pods.items() if changes.needs_asking(pod, recorded.get(name))}


def _is_meant(fleet: "FleetFile", row: "Row", names: Sequence[str]) -> bool:
    """Return whether a row is about a pod or a model that was named: a pod is meant with its models."""
    from pi_cli.fleet import changes

    pods, _ = changes.selected(fleet, names)
    named = {name for name in names if name in fleet.pods}
    return not names or row.pod in named or (row.pod in pods and row.model in names)


def _say(fleet: "FleetFile", lock: "Lock | None", path: Path, *, is_same: bool) -> None:
    from pi_cli.fleet import lock as locks
    from pi_cli.view import terminal

    if lock is None:
        terminal.note(f"there is no `{path}`, so only the file and what runs are compared; `pi up --lock` writes it")
    else:
        for sentence in locks.stale(lock, fleet):
            terminal.note(sentence)
    if is_same:
        terminal.say("nothing differs")

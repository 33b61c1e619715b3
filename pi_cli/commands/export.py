"""`pi export`: write a fleet file from what is recorded and what runs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import fleet_options
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store import files, state

if TYPE_CHECKING:
    from pi_cli.fleet.exporting import Exported
    from pi_cli.fleet.file import FleetFile

STDOUT = Path("-")
Target = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="File to write; `-` prints it. Default: pi.toml.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Change a file that exists; its comments, its lease and its gateway stay.")
]


def export(file: Target = Path(fleet_options.DEFAULT), force: Force = False) -> None:
    """Write a fleet file from pi's list and what runs.

    The file has ssh commands, folders and the options of `pi start`, and no secret: what looks like one is left out,
    with a note. Of a pod that does not answer, the models are those that pi has recorded. `pi up` makes pods and models
    as the file says; `pi help fleet` describes it.

    \b
    Examples:
      pi export
      pi export --file -
      pi export --force
    """
    from pi_cli.fleet import exporting, writing
    from pi_cli.fleet import file as fleet_file
    from pi_cli.view import terminal

    is_printed = file == STDOUT
    exists = not is_printed and file.exists()
    if exists and not force:
        again = fleet_options.typed(file, "export", "--force")
        raise BadUsage(
            f"`{file}` exists",
            hint=fill("change it, with its comments kept: `{again}`; or print: `pi export --file -`", again=again),
        )
    recorded = state.load().pods
    reality = fleet_options.ask(recorded, recorded)
    exported = exporting.find(reality)
    before = fleet_file.read_text(file) if exists else ""
    text = writing.with_fleet(before, file, exported.pods, exported.models)
    for note in [*exported.notes, *_removed(fleet_file.parse(before, file), exported)]:
        terminal.note(note)
    for name, error in reality.failures.items():
        terminal.note(f"`{name}` did not answer, so its models are those that pi has recorded: {error}")
    if is_printed:
        sys.stdout.write(text)
        return
    files.replace(file, text, mode=file.stat().st_mode & 0o777 if exists else 0o644)
    _show(file, exported)


def _removed(before: "FleetFile", exported: "Exported") -> Iterator[str]:
    """Yield what was in the file, and is not any more."""
    for name in before.pods:
        if name not in exported.pods:
            yield f"`pods.{name}` is not in the file any more: it is not on pi's list"
    for name in before.models:
        if name not in exported.models:
            yield f"`models.{name}` is not in the file any more: it does not run"


def _show(file: Path, exported: "Exported") -> None:
    from pi_cli.view import terminal

    replicas = sum(len(model.pods) for model in exported.models.values())
    terminal.say(f"wrote `{file}`: pods: {len(exported.pods)}, models: {replicas}")
    check = fleet_options.typed(file, "up", "--check")
    terminal.next_step(fill("compare it with what runs: `{check}`", check=check))

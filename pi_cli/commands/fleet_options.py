"""What `pi up`, `pi down` and `pi export` share: the file, and what the pods say of it."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.fleet.changes import Reality
    from pi_cli.fleet.file import FleetFile
    from pi_cli.pods.reports import RunningModel
    from pi_cli.ssh.session import PodSession

DEFAULT = "pi.toml"
FilePath = Annotated[
    Path, typer.Option("--file", "-f", metavar="FILE", help="Fleet file, instead of pi.toml in this folder.")
]
FleetNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]…", help="Names of pods and models in the file; all without names.")
]


def ask(pods: Mapping[str, Pod], recorded: Mapping[str, Pod]) -> "Reality":
    """Ask pods what runs on them, and change nothing."""
    from pi_cli.fleet.changes import Reality
    from pi_cli.models import listing
    from pi_cli.pods import fleet

    running: dict[str, list[RunningModel]] = {}

    async def look(session: "PodSession") -> None:
        running[session.pod] = await listing.running(session)

    failures = interrupts.run(fleet.on_each(pods, look, at_once=True))
    return Reality(recorded, running, failures)


def of_file(file: "FleetFile", names: Collection[str]) -> "Reality":
    """Ask those pods of a file that are recorded with its ssh command."""
    from pi_cli.fleet import changes

    recorded = state.load().pods
    asked = {
        name: recorded[name]
        for name, pod in file.pods.items()
        if name in names and changes.needs_asking(pod, recorded.get(name))
    }
    return ask(asked, recorded)


def typed(path: Path, *words: str) -> list[str]:
    """Return the words of a command for this file."""
    return ["pi", *words, *([] if path == Path(DEFAULT) else ["--file", str(path)])]

"""`pi up`: make pods and models as a fleet file says."""

import sys
from collections.abc import Sequence
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

if TYPE_CHECKING:
    from pi_cli.commands.up_lock import InForce
    from pi_cli.commands.up_work import Outcome
    from pi_cli.fleet.changes import Changes
    from pi_cli.fleet.file import FleetFile, FleetGateway

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; the exit code is 0 only if all is as written.")]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Also restart what runs with other options, one replica after the other, and set up again.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="With `--restart`: do not ask.")]
Ssh = Annotated[
    str | None,
    typer.Option("--ssh", metavar="SSH", help="New ssh command of the one pod that is named; written into the file."),
]
WriteLock = Annotated[
    bool, typer.Option("--lock", help="Then write pi.lock beside the file: what runs, so that it can be had again.")
]
Locked = Annotated[
    bool, typer.Option("--locked", help="Start nothing that is not as pi.lock says; without, what is not is named.")
]
Schema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of the file, for editors.")]


def up(
    names: FleetNames = None,
    file: FilePath = Path(fleet_options.DEFAULT),
    dry_run: DryRun = False,
    check: Check = False,
    restart: Restart = False,
    yes: Yes = False,
    ssh: Ssh = None,
    lock: WriteLock = False,
    locked: Locked = False,
    schema: Schema = False,
    as_json: AsJson = False,
) -> None:
    """Set up the pods and start the models of a fleet file.

    Reads pi.toml, asks its pods what runs, shows what is not as written, and does it, on all pods at once. What runs
    with other options is named, and changed only with `--restart`. What is not in the file is named, and never stopped.
    No machine is rented or ended. `pi help fleet` describes the file.

    When a provider has taken a machine, give its successor's ssh command with `--ssh`: it is set up, and its models
    start there.

    Where there is a pi.lock, which `--lock` writes, new pods get its vLLM and models start with its arguments.

    Ctrl+C stops the setups and starts in progress; what is ready stays. Run it again to continue: a model that is
    still loading is followed, not started twice.

    \b
    Examples:
      pi up
      pi up --dry-run
      pi up --check
      pi up qwen
      pi up dc1 --ssh "ssh root@5.6.7.8"
      pi up --restart
      pi up --lock
      pi up --locked
      pi up --schema > pi.schema.json
    """
    from pi_cli.fleet import file as fleet_file
    from pi_cli.view import terminal

    if schema:
        from pi_cli.fleet import schema as fleet_schema

        terminal.show_json(fleet_schema.make())
        return
    if check and (dry_run or restart):
        other = "--dry-run" if dry_run else "--restart"
        raise BadUsage(f"`--check` and `{other}` exclude each other", hint="leave one of them out")
    if lock and (locked or check or dry_run):
        other = "--locked" if locked else "--check" if check else "--dry-run"
        raise BadUsage(f"`--lock` and `{other}` exclude each other", hint="leave one of them out")
    fleet = fleet_file.load(file) if ssh is None else _with_ssh(file, names or [], ssh, is_kept=not (dry_run or check))
    in_force = None if lock else _lock(fleet, is_demanded=locked)
    changes = _changes(fleet, names or [], in_force, restart=restart)
    if check or dry_run:
        _show(changes, as_json=as_json)
        if check:
            _require_as_written(changes, file)
        return
    _up(fleet, names or [], changes, in_force, restart=restart, yes=yes, as_json=as_json)
    if lock:
        from pi_cli.commands import up_lock

        terminal.note(f"wrote {up_lock.write(fleet, changes, restart=restart)}")


def _lock(fleet: "FleetFile", *, is_demanded: bool) -> "InForce | None":
    """Return the lock beside the file, if there is one."""
    from pi_cli.fleet import lock as locks

    if not is_demanded and not locks.beside(fleet.path).exists():
        return None
    from pi_cli.commands import up_lock

    return up_lock.find(fleet, is_demanded=is_demanded)


def _with_ssh(path: Path, names: Sequence[str], ssh: str, *, is_kept: bool) -> "FleetFile":
    """Return the file with another ssh command for the one pod that is named, and write it if it is to be kept."""
    from pi_cli.fleet import file as fleet_file
    from pi_cli.fleet import writing
    from pi_cli.ssh import passwords, ssh_command
    from pi_cli.store import files

    text = fleet_file.read_text(path)
    fleet = fleet_file.parse(text, path)
    if len(names) != 1 or names[0] not in fleet.pods:
        known = ", ".join(f"`{name}`" for name in fleet.pods)
        hint = fill(
            "for example: `pi up {pod} --ssh {ssh}`", pod=next(iter(fleet.pods), "dc1"), ssh=passwords.hide(ssh)
        )
        raise BadUsage(f"`--ssh` needs the name of one pod of the file: {known}", hint=hint)
    written = writing.with_ssh(text, path, names[0], ssh_command.lasting(ssh))
    if is_kept and written != text:
        files.replace(path, written, mode=path.stat().st_mode & 0o777)
    return fleet_file.parse(written, path)


def _changes(fleet: "FleetFile", names: Sequence[str], in_force: "InForce | None", *, restart: bool) -> "Changes":
    from pi_cli.commands import start_plan
    from pi_cli.fleet import changes

    pods, places = changes.selected(fleet, names)
    meant = {model.name for model in fleet.models.values() if any(name == model.name for _, name in places)}
    models = {
        name: replace(model, model=start_plan.resolve(model.model)) if name in meant else model
        for name, model in fleet.models.items()
    }
    fleet = replace(fleet, models=models)
    if in_force is None:
        return changes.find(fleet, fleet_options.of_file(fleet, pods), names)
    from pi_cli.commands import up_lock

    fleet = up_lock.with_versions(fleet, in_force)
    found = changes.find(fleet, fleet_options.of_file(fleet, pods), names)
    return up_lock.compared(found, fleet, in_force, names, restart=restart)


def _show(changes: "Changes", *, as_json: bool, restart: bool = False) -> None:
    from pi_cli.view import fleet as view
    from pi_cli.view import terminal

    if as_json:
        terminal.show_json(view.as_json(changes))
    else:
        view.show(changes, restart=restart)


def _require_as_written(changes: "Changes", path: Path) -> None:
    """Raise the errors of pods that did not answer, or `PiError` if something is not as written."""
    raise_any({change.pod.name: change.error for change in changes.pods if change.error})
    if changes.is_as_written:
        return
    actions = [*(change.action for change in changes.pods), *(change.action for change in changes.models)]
    count = sum(action != "as written" for action in actions)
    things = "thing is" if count == 1 else "things are"
    needs_more = not {"set up", "set up again", "record", "start", "starting", "lease"} & {*actions}
    command = fleet_options.typed(path, "up", *(["--restart"] if needs_more else []))
    raise PiError(f"{count} {things} not as `{path}` says", hint=fill("make it so with `{command}`", command=command))


def _up(
    fleet: "FleetFile",
    names: Sequence[str],
    changes: "Changes",
    in_force: "InForce | None",
    *,
    restart: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from pi_cli.commands import up_work
    from pi_cli.view import attention

    work = up_work.prepare(changes, in_force, restart=restart)
    if not as_json:
        _show(changes, as_json=False, restart=restart)
    if restart and changes.differing and not yes:
        _ask(changes, fleet_options.typed(fleet.path, "up", *names, "--restart", "--yes"))
    models = list(dict.fromkeys(change.model.name for change in changes.models))
    outcome = up_work.Outcome(failures={change.pod.name: change.error for change in changes.pods if change.error})
    if work.is_needed:
        state.require_writable()
        with attention.afterwards("start", list(work.pods), ", ".join(models)):
            interrupts.run(up_work.do(work, outcome))
            _end(fleet, changes, outcome, restart=restart, as_json=as_json)
    else:
        _end(fleet, changes, outcome, restart=restart, as_json=as_json)


def _ask(changes: "Changes", command: list[str]) -> None:
    """Ask once before models that serve are stopped."""
    from pi_cli.view import terminal

    places = ", ".join(f"`{change.place}`" for change in changes.differing)
    if not sys.stdin.isatty():
        raise PiError(
            f"{places}: not restarted, since stdin is not a terminal and pi cannot ask",
            hint=fill("restart without being asked: `{command}`", command=command),
        )
    terminal.err().print(f"Restart {places}, one after the other? Requests in progress are cut off. [y/N]", end=" ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PiError("nothing was changed")


def _end(fleet: "FleetFile", changes: "Changes", outcome: "Outcome", *, restart: bool, as_json: bool) -> None:
    """Show what became ready, what is still not as written, and raise what failed."""
    from pi_cli.view import fleet as view
    from pi_cli.view import terminal

    if as_json:
        terminal.show_json(view.as_json(changes, outcome.ready, outcome.failures))
    else:
        _show_ready(outcome)
        left = [] if restart else [f"`{change.place}`" for change in changes.differing]
        again = fleet_options.typed(fleet.path, "up", "--restart")
        if left:
            run = "runs" if len(left) == 1 else "run"
            text = "{left} {run} with other options; restart with `{again}`"
            terminal.note(fill(text, left=", ".join(left), run=run, again=again))
        if changes.is_as_written:
            terminal.say(f"all is as `{fleet.path}` says")
        if fleet.gateway and not outcome.failures:
            words = _gateway_words(fleet, fleet.gateway)
            terminal.next_step(fill("reach all models at one URL with `{words}`", words=words))
    gateway_members.tell([(each.pod, each.name) for each in outcome.ready.values() if each.is_ready])
    raise_any(outcome.failures)


def _gateway_words(fleet: "FleetFile", gateway: "FleetGateway") -> list[str]:
    """Return the command that serves the file's models as it says, without what is the default anyway."""
    from pi_cli.fleet import file

    words = ["pi", "gateway", *sorted(fleet.models)]
    words += ["--port", str(gateway.port)] if gateway.port != file.DEFAULT_PORT else []
    return [*words, *(["--policy", gateway.policy] if gateway.policy != file.DEFAULT_POLICY else [])]


def _show_ready(outcome: "Outcome") -> None:
    from pi_cli.view import fleet as view

    current = state.load()
    view.show_ready(outcome.ready, {place: current.spelled(*place.split("/")) for place in outcome.ready})

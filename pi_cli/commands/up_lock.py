"""The lock in `pi up`: what it makes of the file and of the starts, what does not fit it, and how it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pi_cli.commands import diff, fleet_options
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.events import Note, Report
from pi_cli.fleet import lock, reality
from pi_cli.fleet.changes import Changes, ModelChange
from pi_cli.fleet.file import FleetFile
from pi_cli.fleet.lock import Lock
from pi_cli.fleet.reality import PodFacts
from pi_cli.hints import fill
from pi_cli.models.local_files import ON_POD
from pi_cli.models.start_options import StartOptions
from pi_cli.ssh.session import PodSession
from pi_cli.store import state


@dataclass(frozen=True, slots=True)
class InForce:
    """The lock from which a `pi up` starts models, without what the file has changed since.

    `is_demanded`: what does not fit it is refused; otherwise it is named, and planned again.
    """

    file: Path
    path: Path
    lock: Lock
    is_demanded: bool


def find(fleet: FleetFile, *, is_demanded: bool) -> InForce | None:
    """Return the lock beside a file. Raises `BadUsage` if it is demanded and not there, or does not fit the file."""
    from pi_cli.view import terminal

    path = lock.beside(fleet.path)
    found = lock.read(path)
    if found is None:
        if is_demanded:
            command = fleet_options.typed(fleet.path, "up", "--lock")
            raise BadUsage(f"there is no lock `{path}`", hint=fill("write it with `{command}`", command=command))
        return None
    changed = lock.stale(found, fleet)
    if is_demanded and changed:
        raise _refused(path, fleet.path, changed)
    for sentence in changed:
        terminal.note(sentence)
    return InForce(fleet.path, path, lock.fitting(found, fleet), is_demanded)


def with_versions(fleet: FleetFile, in_force: InForce) -> FleetFile:
    """Return a file whose pods get the vLLM of the lock."""
    pods = {name: replace(pod, vllm=lock.vllm_for(in_force.lock, name) or pod.vllm) for name, pod in fleet.pods.items()}
    return replace(fleet, pods=pods)


def compared(changes: Changes, fleet: FleetFile, in_force: InForce, names: Sequence[str], *, restart: bool) -> Changes:
    """Return the changes with what runs otherwise than the lock says; name what no restart changes.

    Raises `BadUsage` if the lock is demanded, for that and without `restart` for the rest too: nothing is changed then.
    """
    from pi_cli.view import terminal

    running, _ = diff.look(fleet, names)  # `changes` has the errors of pods that do not answer
    if in_force.is_demanded:
        drift = lock.drift_of_machines(in_force.lock, running, with_vllm=not restart)
        drift += [] if restart else lock.drift_of_models(in_force.lock, running)
        if drift:
            raise _refused(in_force.path, in_force.file, drift)
    else:
        for sentence in lock.drift_of_machines(in_force.lock, running, with_vllm=False):
            terminal.note(sentence)
    return replace(changes, models=tuple(_with_drift(change, in_force, running) for change in changes.models))


async def look(session: PodSession, in_force: InForce | None) -> PodFacts:
    """Return the facts about a pod that is set up by now. Raises `PiError` if a demanded lock does not fit them."""
    if in_force is None:
        return PodFacts()
    facts = await reality.look(session, state.load().pod(session.pod))
    drift = lock.drift_of_machines(in_force.lock, {session.pod: facts})
    if drift and in_force.is_demanded:
        raise _refused(in_force.path, in_force.file, drift)
    return facts


def locked(options: StartOptions, in_force: InForce | None, pod: str, facts: PodFacts, report: Report) -> StartOptions:
    """Return the start that the lock has for a model on a pod; without one, the start that the file asks for."""
    if in_force is None:
        return options
    start = lock.start_for(in_force.lock, pod, options.name, facts)
    kept = {upload.digest for upload in options.uploads}
    words = start.arguments if start else ()
    others = [word for word in words if ON_POD in word and not any(digest in word for digest in kept)]
    if start is None or others:
        why = "a file that it is given has changed" if others else "its pod has other GPUs or another vLLM"
        if not any(options.name in each.models for each in in_force.lock.pods.values()):
            why = "it is not in the lock"
        if in_force.is_demanded:
            raise PiError(
                f"`{options.name}` on `{pod}` cannot be started from the lock: {why}",
                hint="write the lock again with `pi up --lock`, or start without `--locked`",
            )
        report(Note(pod, f"`{options.name}` does not start from the lock: {why}"))
        return options
    constraints = replace(
        options.constraints,
        own_arguments=start.arguments,
        gpus=None,
        memory=None,
        context=None,
        locked=start.locked,
    )
    return replace(options, constraints=constraints)


def write(fleet: FleetFile, changes: Changes, *, restart: bool) -> Path:
    """Write the lock of what runs, and return its path. Raises `PiError` for what is not as the file says."""
    if changes.differing and not restart:
        places = ", ".join(f"`{change.place}`" for change in changes.differing)
        command = fleet_options.typed(fleet.path, "up", "--lock", "--restart")
        raise PiError(
            f"nothing was locked: {places} not as `{fleet.path}` says",
            hint=fill("restart it and lock with `{command}`", command=command),
        )
    running, failures = diff.look(fleet, ())
    raise_any(failures)
    path = lock.beside(fleet.path)
    lock.write(path, lock.of(fleet, running))
    return path


def _with_drift(change: ModelChange, in_force: InForce, running: reality.Reality) -> ModelChange:
    now = running[change.pod].models.get(change.model.name) if change.pod in running else None
    found = lock.reasons(in_force.lock, change.pod, change.model.name, now) if now else []
    if not found or change.action not in ("as written", "differs"):
        return change
    return replace(change, action="differs", reasons=(*change.reasons, *(f"lock: {reason}" for reason in found)))


def _refused(path: Path, file: Path, sentences: Sequence[str]) -> BadUsage:
    compare, again = fleet_options.typed(file, "diff"), fleet_options.typed(file, "up", "--lock")
    return BadUsage(
        f"`{path}` does not fit: {sentences[0]}",
        hint=fill(
            "compare with `{compare}`; start without `--locked`, or write the lock again with `{again}`",
            compare=compare,
            again=again,
        ),
        excerpt="\n".join(sentences[1:]),
    )

"""`pi pods remove --purge`: show what pi has put on a machine, ask, and delete it."""

import sys
from typing import TYPE_CHECKING

from pi_cli import interrupts, units
from pi_cli.errors import PiError, raise_any
from pi_cli.hints import fill

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pi_cli.events import Report
    from pi_cli.pods.reports import Purge, StartEvent
    from pi_cli.ssh.session import PodSession
    from pi_cli.store.records import Pod

STEP = 5  # percent between two reports


def confirm(pods: "Mapping[str, Pod]", *, stop: bool, models: bool, yes: bool) -> None:
    """Show what a purge deletes, and ask once. Raises `PiError` if models run that are not to be stopped, or for a no.

    Nothing is shown or deleted unless all pods have answered.
    """
    from pi_cli.view import purge, terminal

    found = {name: _find(name, pod, models=models) for name, pod in pods.items()}
    for name, (_, running) in found.items():
        if running and not stop:
            quoted = ", ".join(f"`{model}`" for model in running)
            raise PiError(
                f"`{name}` was not purged: its models are still running: {quoted}",
                hint=fill("stop the models first: `pi pods remove {name} --purge --stop`", name=name),
            )
    for name, (things, _) in found.items():
        purge.show(name, things)
    if yes:
        return
    names = ", ".join(f"`{name}`" for name in pods)
    was = "was" if len(pods) == 1 else "were"
    if not sys.stdin.isatty():
        raise PiError(
            f"{names} {was} not purged: stdin is not a terminal, so pi cannot ask",
            hint="give `--yes` to delete this without being asked",
        )
    every = [f"`{model}`" for _, running in found.values() for model in running]
    models_too = f"stop {', '.join(every)} and " if every else ""
    terminal.err().print(f"Should pi {models_too}delete this from {names}? [y/N]", end=" ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PiError(f"{names} {was} not purged")


def _find(name: str, pod: "Pod", *, models: bool) -> "tuple[Purge, list[str]]":
    """Ask a pod what there is to delete, and which models run."""
    from pi_cli.models import listing
    from pi_cli.pods import agent

    found: list[Purge] = []
    running: list[str] = []

    async def ask(session: "PodSession", report: "Report") -> None:
        del report
        running.extend(model.name for model in await listing.running(session))
        found.append(await agent.purge(session, lambda _: None, models=models, delete=False))

    _on_pod(name, pod, ask)
    return found[0], running


def purge(name: str, pod: "Pod", *, models: bool, is_quiet: bool = False) -> tuple[int, int]:
    """Delete what pi has put on a pod; return the number of files, and their bytes.

    If this is interrupted, the next purge deletes the rest.
    """
    from pi_cli.events import Phase
    from pi_cli.pods import agent
    from pi_cli.pods.reports import Downloaded
    from pi_cli.view import terminal

    done: list[Purge] = []

    async def delete(session: "PodSession", report: "Report") -> None:
        shown = {0}

        def on_event(event: "StartEvent") -> None:
            if isinstance(event, Downloaded) and event.total:
                percent = event.done * 100 // event.total // STEP * STEP
                if percent not in shown:
                    shown.add(percent)
                    report(Phase(session.pod, f"deleting: {percent}%"))

        report(Phase(session.pod, "deleting"))
        done.append(await agent.purge(session, on_event, models=models, delete=True))

    _on_pod(name, pod, delete)
    parts = done[0].parts
    files, size = sum(part.files for part in parts), sum(part.size for part in parts)
    if not is_quiet:
        terminal.say(f"deleted {units.size(size)} from `{name}`, files: {files}")
    return files, size


def _on_pod(name: str, pod: "Pod", work: "Callable[[PodSession, Report], Awaitable[None]]") -> None:
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    with progress.following([name]) as report:

        async def with_report(session: "PodSession") -> None:
            await work(session, report)

        failures = interrupts.run(fleet.on_each({name: pod}, with_report))
    raise_any(failures)

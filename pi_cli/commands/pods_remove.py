"""`pi pods remove`: forget a pod, and end what runs there if that is wanted."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands.options import PodName
from pi_cli.errors import PiError, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession

PATIENCE = 8.0  # seconds for a pod that is to be forgotten: it may be gone


def remove(
    name: PodName,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the models that run there first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, neither you nor the pod.")] = False,
) -> None:
    """Forget a pod. The machine itself is not touched: end it at its provider.

    The pod is asked what still runs there, and you are asked what becomes of that. A pod that does not answer can be
    forgotten too.

    The exit code is 1 when the pod was kept, and 3 when `--stop` did not reach it.

    \b
    Examples:
      pi pods remove dc1
      pi pods remove dc1 --stop
      pi pods remove dc1 --yes
    """
    from pi_cli.view import terminal

    pod = state.load().pod(name)
    if not yes and not stop:
        stop = _ask_about_models(name, pod)
    if stop:
        _stop_all(name, pod)
    elif yes and pod.models:
        terminal.note(f"perhaps still running on `{name}`: {_quoted(pod.models)}")
    now_active = _forget(name)
    at = f"at its provider ({pod.provider})" if pod.provider else "at its provider"
    terminal.say(f"forgot `{name}`; the machine still runs and is billed until you end it {at}")
    if now_active:
        terminal.say(f"the active pod is `{now_active}`")


def _ask_about_models(name: str, pod: Pod) -> bool:
    """Return whether the models on a pod are to be stopped before it is forgotten; raises `PiError` to keep it."""
    from pi_cli.view import terminal

    running, silence = _find_running(name, pod)
    if silence:
        terminal.note(f"`{name}` did not say what runs there: {silence}")
    if not running:
        return False
    terminal.note(f"{'perhaps ' if silence else ''}still running on `{name}`: {_quoted(running)}")
    if not sys.stdin.isatty():
        raise PiError(
            f"`{name}` was kept: nobody is there to ask",
            hint="give `--stop` to stop its models first, or `--yes` to forget it all the same",
        )
    if silence:
        answer = {"y": "forget", "yes": "forget"}.get(_answer(f"Forget `{name}` all the same? [y/N]"))
    else:
        answer = _answer(f"Stop first, forget `{name}` all the same, or keep it? [stop/forget/KEEP]")
    if answer not in ("stop", "forget"):
        raise PiError(f"`{name}` was kept")
    return answer == "stop"


def _answer(question: str) -> str:
    """Ask on stderr: Typer's own prompts put a blank on stdout."""
    from pi_cli.view import terminal

    terminal.err().print(question, end=" ")
    return sys.stdin.readline().strip().lower()


def _find_running(name: str, pod: Pod) -> tuple[list[str], str | None]:
    """Ask a pod for a few seconds what runs there; failing that, return what pi remembers, and why it said nothing."""
    import asyncio

    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    running: list[str] = []

    async def look(session: "PodSession") -> None:
        running.extend(each.name for each in await listing.running(session))

    async def ask() -> dict[str, PiError]:
        async with asyncio.timeout(PATIENCE):
            return await fleet.on_each({name: pod}, look)

    try:
        with progress.following([name]):
            failures = asyncio.run(ask())
    except TimeoutError:
        return list(pod.models), f"it did not answer within {PATIENCE:.0f} s"
    if failures:
        return list(pod.models), str(failures[name])
    return running, None


def _stop_all(name: str, pod: Pod) -> None:
    import asyncio

    from pi_cli.models import stopping
    from pi_cli.pods import fleet
    from pi_cli.view import progress, terminal

    async def end(session: "PodSession") -> None:
        done = await stopping.stop_all(session)
        stopped.extend(model for model, how in done.outcome.items() if how in ("stopped", "killed"))
        stopping.require_gone(name, done)

    stopped: list[str] = []
    with progress.following([name]):
        failures = asyncio.run(fleet.on_each({name: pod}, end))
    keep_going = "`{name}` was kept; forget it without stopping anything with `pi pods remove {name} --yes`"
    for error in failures.values():
        if isinstance(error, PodUnreachable) and error.may_be_gone:
            error.with_hint(fill(keep_going, name=name))
    raise_any(failures)
    for model in stopped:
        terminal.say(f"stopped `{model}` on `{name}`")


def _forget(name: str) -> str | None:
    """Forget a pod and its host key; return the pod that is active now, if that has changed."""
    from pi_cli.ssh import host_keys

    with state.edit() as current:
        current.pod(name)
        del current.pods[name]
        was_active = current.active == name
        if was_active:
            current.active = next(iter(current.pods), None)
        now_active = current.active if was_active else None
    host_keys.forget(name)
    return now_active


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

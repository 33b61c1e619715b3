"""`pi pods remove`: remove a pod from the list, after stopping its models if the user wants that."""

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import pods_purge
from pi_cli.commands.options import PodName
from pi_cli.errors import BadUsage, PiError, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import costs, state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.ssh.session import PodSession

ANSWER_TIMEOUT = 8.0  # seconds; short, because the machine may no longer exist


def remove(
    name: PodName,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the models on the pod first.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Skip the confirmation and, without `--purge`, do not contact the pod.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete what pi has put on the machine; shows what and how much first.")
    ] = False,
    models: Annotated[bool, typer.Option("--models", help="With `--purge`: delete the downloaded models too.")] = False,
) -> None:
    """Remove a pod from pi's list. The machine keeps running: end it at its provider.

    pi asks the pod which models are running, and asks you what to do with them. A pod that does not answer can be
    removed too.

    With `--purge`, pi first deletes from the machine what setup and starts have put there: the vLLMs, uv, variables,
    logs and records. It shows what and how much, and asks. Files that setup did not make stay, and what it moved aside
    (`.before-setup`) goes back. Packages that apt installed stay. After Ctrl+C, run it again to continue.

    The exit code is 1 if the pod was not removed, and 3 if `--stop` could not reach it.

    \b
    Examples:
      pi pods remove dc1
      pi pods remove dc1 --stop
      pi pods remove dc1 --yes
      pi pods remove dc1 --purge
      pi pods remove dc1 --purge --models --stop --yes
    """
    from pi_cli.view import terminal

    pod = state.load().pod(name)
    if models and not purge:
        raise BadUsage("`--models` needs `--purge`", hint=fill("`pi pods remove {name} --purge --models`", name=name))
    if purge:
        pods_purge.confirm(name, pod, stop=stop, models=models, yes=yes)
    elif not yes and not stop:
        stop = _ask_about_models(name, pod)
    if stop:
        _stop_all(name, pod)
    elif yes and pod.models and not purge:
        terminal.note(f"may still be running on `{name}`: {_quoted(pod.models)}")
    if purge:
        pods_purge.purge(name, pod, models=models)
    new_active = _forget(name)
    provider = f"its provider ({pod.provider})" if pod.provider else "its provider"
    terminal.say(f"removed `{name}`; the machine keeps running and is billed until you end it at {provider}")
    if pod.price and (total := costs.up(pod)):
        terminal.say(
            f"`{name}` was up for about {total} at {pod.price}/h; "
            "pi does not stop the provider's billing: delete it there"
        )
    if new_active:
        terminal.say(f"the active pod is now `{new_active}`")


def _ask_about_models(name: str, pod: Pod) -> bool:
    """Return whether to stop the models of a pod before it is removed; raise `PiError` to keep the pod."""
    from pi_cli.view import terminal

    running, failure = _find_running(name, pod)
    if failure:
        terminal.note(f"the running models of `{name}` are unknown: {failure}")
    if not running:
        return False
    terminal.note(f"{'may still be' if failure else 'still'} running on `{name}`: {_quoted(running)}")
    if not sys.stdin.isatty():
        raise PiError(
            f"`{name}` was not removed: stdin is not a terminal, so pi cannot ask",
            hint="give `--stop` to stop its models first, or `--yes` to remove it without stopping them",
        )
    if failure:
        answer = {"y": "remove", "yes": "remove"}.get(_answer(f"Remove `{name}` anyway? [y/N]"))
    else:
        answer = _answer(f"Stop the models first, remove `{name}` anyway, or keep it? [stop/remove/KEEP]")
    if answer not in ("stop", "remove"):
        raise PiError(f"`{name}` was not removed")
    return answer == "stop"


def _answer(question: str) -> str:
    """Ask on stderr: Typer's own prompts print a space on stdout."""
    from pi_cli.view import terminal

    terminal.err().print(question, end=" ")
    return sys.stdin.readline().strip().lower()


def _find_running(name: str, pod: Pod) -> tuple[list[str], str | None]:
    """Return the running models of a pod; if it does not answer in time, the recorded ones and the reason."""
    import asyncio

    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    running: list[str] = []

    async def add_running(session: "PodSession") -> None:
        running.extend(model.name for model in await listing.running(session))

    async def ask() -> dict[str, PiError]:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await fleet.on_each({name: pod}, add_running)

    try:
        with progress.following([name]):
            failures = asyncio.run(ask())
    except TimeoutError:
        return list(pod.models), f"it did not answer within {ANSWER_TIMEOUT:.0f} s"
    if failures:
        return list(pod.models), str(failures[name])
    return running, None


def _stop_all(name: str, pod: Pod) -> None:
    import asyncio

    from pi_cli.models import stopping
    from pi_cli.pods import fleet
    from pi_cli.view import progress, terminal

    async def stop_models(session: "PodSession") -> None:
        result = await stopping.stop_all(session)
        stopped.extend(model for model, outcome in result.outcome.items() if outcome in ("stopped", "killed"))
        stopping.require_success(name, result)

    stopped: list[str] = []
    with progress.following([name]):
        failures = asyncio.run(fleet.on_each({name: pod}, stop_models))
    kept = "`{name}` was not removed; remove it without stopping its models with `pi pods remove {name} --yes`"
    for error in failures.values():
        if isinstance(error, PodUnreachable) and error.may_be_gone:
            error.with_hint(fill(kept, name=name))
    raise_any(failures)
    for model in stopped:
        terminal.say(f"stopped `{model}` on `{name}`")


def _forget(name: str) -> str | None:
    """Remove a pod and its host key; return the pod that is active now, if that has changed."""
    from pi_cli.ssh import host_keys

    with state.edit() as current:
        current.pod(name)
        del current.pods[name]
        was_active = current.active == name
        if was_active:
            current.active = next(iter(current.pods), None)
        new_active = current.active if was_active else None
    host_keys.forget(name)
    return new_active


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

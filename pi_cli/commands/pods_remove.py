"""`pi pods remove`: remove a pod from the list, after stopping its models if the user wants that."""

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import interrupts
from pi_cli.commands import gateway_members, pods_purge
from pi_cli.commands.options import AsJson, PodNames
from pi_cli.errors import BadUsage, PiError, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import costs, state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.parts import Part
    from pi_cli.ssh.session import PodSession

ANSWER_TIMEOUT = 8.0  # seconds; short, because the machine may no longer exist


def remove(
    names: PodNames,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the models on the pod first.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Skip the confirmation and, without `--purge`, do not contact the pod.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete what pi has put on the machine; shows what and how much first.")
    ] = False,
    models: Annotated[bool, typer.Option("--models", help="With `--purge`: delete the downloaded models too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove pods from pi's list. The machines keep running: end them at their provider.

    pi asks the pods which models are running, and asks you once what to do with them. A pod that does not answer can be
    removed too.

    With `--purge`, pi first deletes from the machine what setup and starts have put there: the vLLMs, uv, variables,
    logs and records. It shows what and how much, and asks. Files that setup did not make stay, and what it moved aside
    (`.before-setup`) goes back. Packages that apt installed stay. After Ctrl+C, run it again to continue.

    The exit code is 1 if a pod was not removed, and 3 if `--stop` could not reach it. The others are removed.

    \b
    Examples:
      pi pods remove dc1
      pi pods remove dc1 dc2 dc3
      pi pods remove dc1 --stop
      pi pods remove dc1 --yes
      pi pods remove dc1 --purge
      pi pods remove dc1 --purge --models --stop --yes
    """
    from pi_cli.view import terminal

    current = state.load()
    pods = {name: current.pod(name) for name in names}
    if models and not purge:
        hint = fill("`pi pods remove {names} --purge --models`", names=list(pods))
        raise BadUsage("`--models` needs `--purge`", hint=hint)
    if not stop:
        _say_what_is_split(current, names)
    if purge:
        pods_purge.confirm(pods, stop=stop, models=models, yes=yes)
    elif not yes and not stop:
        stop = _ask_about_models(pods)
    removed: list[dict[str, object]] = []
    failures: dict[str, PiError] = {}
    for name, pod in pods.items():
        try:
            removed.append(_remove(name, pod, stop=stop, is_forced=yes, purge=purge, models=models, is_quiet=as_json))
        except PiError as error:
            failures[name] = error
    if as_json:
        terminal.show_json(removed)
    raise_any(failures)


def purged(pods: Mapping[str, Pod], failures: dict[str, PiError], *, is_quiet: bool) -> list[dict[str, object]]:
    """Purge and remove pods on which nothing runs, after `pods_purge.confirm`; add to `failures` what failed."""
    removed = []
    for name, pod in pods.items():
        try:
            row = _remove(name, pod, stop=False, is_forced=True, purge=True, models=False, is_quiet=is_quiet)
            removed.append(row)
        except PiError as error:
            failures[name] = error
    return removed


def _remove(
    name: str, pod: Pod, *, stop: bool, is_forced: bool, purge: bool, models: bool, is_quiet: bool
) -> dict[str, object]:
    """Remove one pod; return what `--json` shows of it, and print it otherwise."""
    from pi_cli.view import terminal

    stopped = _stop_all(name, pod) if stop else []
    purged = None
    said = [f"stopped `{model}` on `{name}`" for model in stopped]
    for text in said if not is_quiet else ():
        terminal.say(text)
    if not stop and is_forced and pod.models and not purge:
        terminal.note(f"may still be running on `{name}`: {_quoted(pod.models)}")
    if purge:
        purged = pods_purge.purge(name, pod, models=models, is_quiet=is_quiet)
    new_active = _forget(name)
    if not is_quiet:
        provider = f"its provider ({pod.provider})" if pod.provider else "its provider"
        terminal.say(f"removed `{name}`; the machine keeps running and is billed until you end it at {provider}")
        if pod.price and (total := costs.up(pod)):
            terminal.say(
                f"`{name}` was up for about {total} at {pod.price}/h; "
                "pi does not stop the provider's billing: delete it there"
            )
        if new_active:
            terminal.say(f"the active pod is now `{new_active}`")
    files, size = purged or (None, None)
    return {"name": name, "stopped": stopped, "deleted_files": files, "deleted_bytes": size, "provider": pod.provider}


def _ask_about_models(pods: Mapping[str, Pod]) -> bool:
    """Return whether to stop the models of pods before these are removed; raise `PiError` to keep the pods."""
    from pi_cli.view import terminal

    running, failures = _find_running(pods)
    for name, reason in failures.items():
        terminal.note(f"the running models of `{name}` are unknown: {reason}")
    having = {name: models for name, models in running.items() if models}
    if not having:
        return False
    for name, models in having.items():
        terminal.note(f"{'may still be' if name in failures else 'still'} running on `{name}`: {_quoted(models)}")
    was, it = ("was", "it") if len(pods) == 1 else ("were", "them")
    if not sys.stdin.isatty():
        raise PiError(
            f"{_quoted(pods)} {was} not removed: stdin is not a terminal, so pi cannot ask",
            hint=f"give `--stop` to stop the models first, or `--yes` to remove {it} without stopping them",
        )
    if set(having) <= set(failures):
        answer = {"y": "remove", "yes": "remove"}.get(_answer(f"Remove {_quoted(pods)} anyway? [y/N]"))
    else:
        answer = _answer(f"Stop the models first, remove {_quoted(pods)} anyway, or keep {it}? [stop/remove/KEEP]")
    if answer not in ("stop", "remove"):
        raise PiError(f"{_quoted(pods)} {was} not removed")
    return answer == "stop"


def _say_what_is_split(current: state.State, names: Iterable[str]) -> None:
    """Say which models run over a pod to remove and over others: they cannot answer without it."""
    if not any(model.role for name in names for model in current.pod(name).models.values()):
        return
    from pi_cli.models import parts
    from pi_cli.view import terminal

    removed = set(names)
    for uid in dict.fromkeys(part.uid for part in parts.on(current, removed)):
        found = [part for part in parts.on(current, removed) if part.uid == uid]
        if kept := [part for part in found if part.pod not in removed]:
            where = _quoted(part.pod for part in found)
            stop_it = fill("`pi stop {name} --pod {pod}`", name=kept[0].name, pod=kept[0].pod)
            terminal.note(f"`{kept[0].name}` runs over {where}, and cannot answer without all of them: {stop_it}")


def _answer(question: str) -> str:
    """Ask on stderr: Typer's own prompts print a space on stdout."""
    from pi_cli.view import terminal

    terminal.err().print(question, end=" ")
    return sys.stdin.readline().strip().lower()


def _find_running(pods: Mapping[str, Pod]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the running models of pods, and why some are unknown: of those, the recorded models are returned."""
    import asyncio

    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    running: dict[str, list[str]] = {}
    late = f"it did not answer within {ANSWER_TIMEOUT:.0f} s"

    async def find(session: "PodSession") -> None:
        running[session.pod] = [model.name for model in await listing.running(session)]

    async def ask() -> dict[str, PiError]:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await fleet.on_each(pods, find)

    failures: dict[str, PiError] = {}
    try:
        with progress.following(pods):
            failures = interrupts.run(ask())
    except TimeoutError:
        pass
    unknown = {name: str(failures.get(name, late)) for name in pods if name not in running}
    return {name: running.get(name, list(pod.models)) for name, pod in pods.items()}, unknown


def _stop_all(name: str, pod: Pod) -> list[str]:
    """Stop all models of a pod, and return their names."""

    from pi_cli.models import stopping
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    async def stop_models(session: "PodSession") -> None:
        result = await stopping.stop_all(session)
        stopped.extend(model for model, outcome in result.outcome.items() if outcome in ("stopped", "killed"))
        elsewhere.extend(result.elsewhere)
        stopping.require_success(name, result)

    async def stop_everywhere() -> "dict[str, PiError]":
        async with gateway_members.leaving([(name, model) for model in pod.models]):
            failures = await fleet.on_each({name: pod}, stop_models)
        return failures | await stopping.stop_elsewhere(elsewhere)

    stopped: list[str] = []
    elsewhere: list[Part] = []
    with progress.following([name]):
        failures = interrupts.run(stop_everywhere())
    kept = "`{name}` was not removed; remove it without stopping its models with `pi pods remove {name} --yes`"
    for error in failures.values():
        if isinstance(error, PodUnreachable) and error.may_be_gone:
            error.with_hint(fill(kept, name=name))
    raise_any(failures)
    return stopped


def _forget(name: str) -> str | None:
    """Remove a pod and its host key; return the pod that is active now, if that has changed."""
    from pi_cli.hold import client
    from pi_cli.ssh import host_keys
    from pi_cli.store import port_verdicts

    with state.edit() as current:
        current.pod(name)
        del current.pods[name]
        was_active = current.active == name
        if was_active:
            current.active = next(iter(current.pods), None)
        new_active = current.active if was_active else None
    host_keys.forget(name)
    client.unlink([name])
    port_verdicts.forget(name)
    return new_active


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)

"""`pi stop`: stop models and free their GPUs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli import units
from pi_cli.commands import resolve
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.commands.resolve import Place
from pi_cli.errors import BadUsage, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import state, unknown
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.stopping import Stopped
    from pi_cli.ssh.session import PodSession

IF_GONE = (
    "the list is unchanged; if the machine is gone: `pi stop {names} --pod {pod} --forget`, or `pi pods remove {pod}`"
)


def stop(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…]", help="Names of models, or POD/NAME.", autocompletion=complete_model),
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Stop all models on the pods.")] = False,
    pod: OnPods = None,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Only remove the models from pi's list, stop nothing: for a pod that is gone."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stop models and free their GPUs.

    Stops all processes of the models and checks that they have exited. A model that had already exited is removed from
    pi's list. `pi rm` does the same; the downloaded files stay on the pod.

    \b
    Examples:
      pi stop qwen72b
      pi stop qwen72b dc2/glm
      pi stop --all --pod dc2
      pi stop qwen72b --forget
    """
    if bool(names) == every:
        raise BadUsage("name the models to stop, or give `--all`", hint="see them with `pi list`")
    current = state.load()
    places = resolve.places(current, names, pod or []) if names else None
    pods = current.select((place.pod for place in places) if places else pod or [])
    if forget:
        _forget(pods, places, as_json=as_json)
    else:
        _stop(pods, places, as_json=as_json)


def _stop(pods: Mapping[str, Pod], places: Sequence[Place] | None, *, as_json: bool) -> None:
    import asyncio

    from pi_cli.models import stopping
    from pi_cli.pods import fleet
    from pi_cli.view import terminal

    results: dict[str, Stopped] = {}

    async def stop_on(session: "PodSession") -> None:
        names = _names(places or [], session.pod)
        results[session.pod] = await (stopping.stop(session, names) if names else stopping.stop_all(session))
        stopping.require_success(session.pod, results[session.pod])

    failures = asyncio.run(fleet.on_each(pods, stop_on))
    for pod_name in sorted(results):
        result = results[pod_name]
        missing = [name for name, end in result.outcome.items() if end == "gone" and name not in pods[pod_name].models]
        if not as_json:
            _show(pod_name, pods[pod_name], result)
        if missing:
            failures.setdefault(pod_name, unknown.model(state.load(), missing, pod_name))
    for pod_name, error in failures.items():
        if isinstance(error, PodUnreachable):
            names = _names(places or [], pod_name)
            if error.may_be_gone and pods[pod_name].models:
                error.with_hint(fill(IF_GONE, pod=pod_name, names=names or ["--all"]))
            resolve.doubt(error, state.load(), pod_name, names)
    if as_json:
        terminal.show_json([row for pod_name in sorted(results) for row in _as_json(pod_name, results[pod_name])])
    elif not places and not any(result.outcome for result in results.values()) and not failures:
        terminal.note(f"nothing runs on {', '.join(pods)}")
    raise_any(failures)


def _as_json(pod_name: str, stopped: "Stopped") -> list[dict[str, object]]:
    return [
        {"pod": pod_name, "name": name, "outcome": outcome, "pod_freed_mib": stopped.freed}
        for name, outcome in sorted(stopped.outcome.items())
    ]


def _show(pod_name: str, pod: Pod, stopped: "Stopped") -> None:
    """Print what happened to the models of a pod that it or pi knows."""
    from pi_cli.view import terminal

    for name, outcome in sorted(stopped.outcome.items()):
        if name in stopped.others:
            terminal.note(f"another client had started `{name}` on `{pod_name}` again: that is what was stopped")
        match outcome:
            case "stopped":
                terminal.say(f"stopped `{name}` on `{pod_name}`")
            case "killed":
                terminal.say(f"stopped `{name}` on `{pod_name}`: it ignored SIGTERM and was killed")
            case "gone" if name in pod.models:
                terminal.say(f"`{name}` on `{pod_name}` had already exited")
    if stopped.freed:
        terminal.note(f"{units.gpu_memory(stopped.freed)} of GPU memory freed on `{pod_name}`")


def _names(places: Sequence[Place], pod: str) -> list[str]:
    return [place.name for place in places if place.pod == pod]


def _forget(pods: Mapping[str, Pod], places: Sequence[Place] | None, *, as_json: bool) -> None:
    """Remove models from the list without asking their pods; if one is running, the next `pi list` adds it again."""
    from pi_cli.view import terminal

    with state.edit() as current:
        listed = [Place(pod, name) for pod, name, _ in current.models() if pod in pods]
        removed = [place for place in listed if not places or place in places]
        for pod_name, name in removed:
            del current.pod(pod_name).models[name]
    if as_json:
        rows = [{"pod": pod, "name": name, "outcome": "forgotten", "pod_freed_mib": None} for pod, name in removed]
        terminal.show_json(rows)
    for pod_name, name in removed if not as_json else ():
        terminal.say(f"removed `{name}` on `{pod_name}` from the list; if it is running, it keeps running")
    found = {name for _, name in removed}
    if missing := [name for name in dict.fromkeys(place.name for place in places or []) if name not in found]:
        where = ", ".join(dict.fromkeys(place.pod for place in places or [] if place.name == missing[0]))
        near = unknown.meant(state.load(), missing[0])
        hint = near or "see the list with `pi list --no-check`"
        raise BadUsage(f"`{missing[0]}` is not on pi's list for {where}", hint=hint)

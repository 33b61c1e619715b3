"""`pi stop`: stop models and free their GPUs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pi_cli import interrupts, units
from pi_cli.commands import gateway_members, resolve
from pi_cli.commands.resolve import Place
from pi_cli.errors import BadUsage, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import state, unknown
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.commands.quick_options import AsJson, Forget, NamesToStop, OnPods, StopAll
    from pi_cli.errors import PiError
    from pi_cli.models.parts import Part
    from pi_cli.models.stopping import Stopped
    from pi_cli.ssh.session import PodSession

IF_GONE = (
    "the list is unchanged; if the machine is gone: `pi stop {names} --pod {pod} --forget`, or `pi pods remove {pod}`"
)


def stop(
    names: "NamesToStop" = None,
    every: "StopAll" = False,
    pod: "OnPods" = None,
    forget: "Forget" = False,
    as_json: "AsJson" = False,
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
    from pi_cli.models import stopping
    from pi_cli.pods import fleet
    from pi_cli.view import terminal

    results: dict[str, Stopped] = {}
    typed, before = pods, state.load()
    others = _other_parts(typed, places)
    pods = {**typed, **{pod: state.load().pod(pod) for pod in others}}

    async def stop_on(session: "PodSession") -> None:
        names, done = _names(places or [], session.pod), []
        if session.pod in typed:
            done.append(await (stopping.stop(session, names) if names else stopping.stop_all(session)))
        if rest := [part for part in others.get(session.pod, []) if not done or part.name not in done[0].outcome]:
            done.append(await stopping.stop_parts(session, rest))
        results[session.pod] = stopping.together(done)
        stopping.require_success(session.pod, results[session.pod])

    async def stop_behind_gateways() -> "dict[str, PiError]":
        meant = _meant(typed, places)
        async with gateway_members.leaving(meant):
            failures = await stop_everywhere()
        await gateway_members.joined([place for place in meant if place[0] in failures])
        return failures

    async def stop_everywhere() -> "dict[str, PiError]":
        failures = await fleet.on_each(pods, stop_on, at_once=True)
        more = _unstopped(results, pods)

        async def stop_rest(session: "PodSession") -> None:
            before = [results[session.pod]] if session.pod in results else []
            results[session.pod] = stopping.together([*before, await stopping.stop_parts(session, more[session.pod])])
            stopping.require_success(session.pod, results[session.pod])

        return failures | await fleet.on_each({pod: state.load().pod(pod) for pod in more}, stop_rest)

    failures = interrupts.run(stop_behind_gateways())
    for pod_name in sorted(results):
        result = results[pod_name]
        meant = _names(places or [], pod_name) if pod_name in typed else []
        missing = [name for name in meant if result.outcome[name] == "gone" and name not in typed[pod_name].models]
        if not as_json:
            _show(pod_name, before.pod(pod_name), result)
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


def _meant(pods: Mapping[str, Pod], places: Sequence[Place] | None) -> list[tuple[str, str]]:
    """Return the models to stop, by pod and name, as far as they are on pi's list."""
    if places:
        return [(place.pod, place.name) for place in places]
    return [(pod, name) for pod, entry in pods.items() for name in entry.models]


def _other_parts(pods: Mapping[str, Pod], places: Sequence[Place] | None) -> "dict[str, list[Part]]":
    """Return the other parts of the models to stop, which ran over several pods, by pod."""
    if not any(model.role for pod in pods.values() for model in pod.models.values()):
        return {}
    from pi_cli.models import parts

    names = None if places is None else {pod: _names(places, pod) for pod in pods}
    found: dict[str, list[Part]] = {}
    for part in parts.on(state.load(), pods, names):
        if part.pod not in pods or (places is not None and part.name not in _names(places, part.pod)):
            found.setdefault(part.pod, []).append(part)
    return found


def _unstopped(results: "Mapping[str, Stopped]", pods: Mapping[str, Pod]) -> "dict[str, list[Part]]":
    """Return parts of what was stopped that were not known before: another client has started the model."""
    found: dict[str, list[Part]] = {}
    for result in results.values():
        for part in result.elsewhere:
            done = results.get(part.pod)
            if part.pod not in pods or (done and part.name not in done.outcome):
                found.setdefault(part.pod, []).append(part)
    return found


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
        removed += [Place(part.pod, part.name) for parts in _other_parts(pods, places).values() for part in parts]
        for pod_name, name in removed:
            current.pod(pod_name).models.pop(name, None)
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

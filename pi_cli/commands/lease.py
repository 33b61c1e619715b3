"""`pi lease`: end a model by itself after some time without work."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pi_cli import interrupts, units
from pi_cli.commands import resolve
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.commands.resolve import Place
from pi_cli.errors import BadUsage, PiError, PodUnreachable, raise_any
from pi_cli.hints import fill
from pi_cli.store import quantities, state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.pods.reports import Lease, Leases
    from pi_cli.ssh.session import PodSession

    Work = Callable[[PodSession, str], Awaitable[Leases]]

OFF = "off"


def lease(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Name of the model, or POD/NAME.", autocompletion=complete_model),
    ] = None,
    time: Annotated[
        str | None, typer.Argument(metavar="[TIME]", help="New lease, e.g. 45m or 2h; `off` ends the lease.")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", "-a", help="Show the leases of all pods.")] = False,
    pod: OnPods = None,
    then: Annotated[
        Literal["stop-pod"] | None,
        typer.Option(
            "--then", metavar="ACTION", help="stop-pod stops the pod too, once the last lease on it has ended."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Stop a model by itself after some time without work.

    A small process on the pod watches the model, also while this machine is off. Every request renews the lease. With
    `pi start --lease 45m` a model has one from the beginning; NAME and TIME give one to a running model, or another.
    Without TIME, shows the leases of the pods, and how models have ended.

    A model ends as by `pi stop`. The pod stays on and is billed, unless `--then stop-pod` has its provider stop it.

    \b
    Examples:
      pi lease --all
      pi lease qwen 2h
      pi lease dc2/glm 45m --then stop-pod
      pi lease qwen off
    """
    current = state.load()
    if time is None and then is not None:
        raise BadUsage("`--then` needs a lease", hint="give one: `pi lease NAME 45m --then stop-pod`")
    if name is not None and every:
        raise BadUsage("`--all` shows the leases of all pods, and takes no name", hint="leave one of them out")
    places = resolve.places(current, [name], pod or []) if name is not None else None
    pods = current.select((place.pod for place in places) if places else pod or [], every=every and bool(current.pods))
    seconds = None if time in (None, OFF) else quantities.lease(time, then)

    async def work(session: "PodSession", model: str) -> "Leases":
        from pi_cli.models import leases

        if seconds is not None:
            return await leases.give(session, model, seconds, then)
        return await (leases.take_back(session, model) if time == OFF else leases.show(session))

    answers, failures = _ask(pods, places, work)
    for pod_name, error in failures.items():
        if isinstance(error, PodUnreachable) and places:
            resolve.doubt(error, current, pod_name, [place.name for place in places if place.pod == pod_name])
    if as_json:
        _show_json(answers, places)
    elif places and time is not None:
        _show_change(answers, places, is_off=time == OFF)
    else:
        _show(answers, places)
    raise_any(failures)


def _ask(
    pods: Mapping[str, Pod], places: Sequence[Place] | None, work: "Work"
) -> "tuple[dict[str, Leases], Mapping[str, PiError]]":

    from pi_cli.pods import fleet
    from pi_cli.pods.wording import AgentRefused
    from pi_cli.store import unknown

    answers: dict[str, Leases] = {}
    names = {place.pod: place.name for place in places or ()}

    async def ask(session: "PodSession") -> None:
        name = names.get(session.pod, "")
        try:
            answers[session.pod] = await work(session, name)
        except AgentRefused as error:
            if error.code == "not-there" and name not in (current := state.load()).pod(session.pod).models:
                raise unknown.model(current, [name], session.pod) from error
            raise

    return answers, interrupts.run(fleet.on_each(pods, ask, at_once=True))


def _of(answer: "Leases", pod: str, places: Sequence[Place] | None) -> "list[Lease]":
    """Return the leases that are meant."""
    names = {place.name for place in places or () if place.pod == pod}
    return [each for each in answer.leases if not places or each.name in names]


def _show_change(answers: "Mapping[str, Leases]", places: Sequence[Place], *, is_off: bool) -> None:
    from pi_cli.models import lease_words
    from pi_cli.view import terminal

    for pod, answer in sorted(answers.items()):
        name = next(place.name for place in places if place.pod == pod)
        for each in [] if is_off else _of(answer, pod, places):
            after = "then the pod is stopped" if each.then else "the pod stays on and is billed"
            now = f" (now: {lease_words.left(each)})" if each.phase == "idle" else ""
            terminal.say(f"`{name}` on `{pod}` ends after {units.span(each.seconds)} without work{now}; {after}")
        if is_off:
            terminal.say(f"`{name}` on `{pod}` has no lease: it runs until you stop it")


def _show(answers: "Mapping[str, Leases]", places: Sequence[Place] | None) -> None:
    from pi_cli.models import lease_words
    from pi_cli.view import leases as view
    from pi_cli.view import terminal

    found = {pod: _of(answer, pod, places) for pod, answer in answers.items()}
    if any(found.values()):
        view.show(found)
    elif answers:
        names = [place.name for place in places or ()]
        start = fill("give one with `pi lease {name} 45m`", name=names[0] if names else "NAME")
        terminal.note(f"no leases on {', '.join(answers)}; {start}")
    pods = state.load().pods
    for pod, answer in answers.items():
        for each in found[pod]:
            for remark in lease_words.remarks(each, pod):
                terminal.note(f"{pod}: {remark}")
        names = [place.name for place in places or () if place.pod == pod]
        price = pods[pod].price if pod in pods else None
        for end in lease_words.latest(answer.ends, names):
            terminal.note(f"{pod}: `{end.name}` {lease_words.ended(end, price)}")


def _show_json(answers: "Mapping[str, Leases]", places: Sequence[Place] | None) -> None:
    from pi_cli.models import lease_words
    from pi_cli.view import terminal

    rows = []
    for pod, answer in sorted(answers.items()):
        running = [(each.name, lease_words.as_json(each), None) for each in _of(answer, pod, places)]
        names = {place.name for place in places or () if place.pod == pod}
        ends = [
            (end.name, None, lease_words.end_as_json(end)) for end in answer.ends if not places or end.name in names
        ]
        rows += [{"pod": pod, "name": name, "lease": now, "lease_end": end} for name, now, end in [*running, *ends]]
    terminal.show_json(rows)

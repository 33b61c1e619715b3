"""`pi list`: models and their current status."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.commands import rows
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import costs, state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.commands.quick_options import AsJson, Check, EveryPod, NamesOnly, OnPods, Watch, Wide
    from pi_cli.models.model_status import Listed
    from pi_cli.models.public_ports import PublicPorts
    from pi_cli.ssh.session import PodSession
    from pi_cli.store.state import State
    from pi_cli.view.listing import Board


def list_models(
    pod: "OnPods" = None,
    every: "EveryPod" = False,
    check: "Check" = True,
    watch: "Watch" = False,
    wide: "Wide" = False,
    quiet: "NamesOnly" = False,
    as_json: "AsJson" = False,
) -> None:
    """List models and their current status.

    Shows GPUs and their memory, port, PID, status, requests and endpoint. A model takes one line; on a narrow terminal
    the least important columns are left out, and `--wide` shows all. A running model that is not on pi's list is added
    to it; a dead model is shown once, with the cause, and removed from it. `pi ls` and `pi ps` do the same.

    URL is the public URL at which the model has answered from here, or the command that opens a local port to it. pi
    does not wait for a port that answers later than the pod; if it has answered before, the list says how long ago.

    With `--quiet`, prints the names of the models that can be stopped, as POD/NAME where the pod is not the active one.

    \b
    Status:
      starting     with the phase of the start
      ready        the server answers
      stalled      its server takes requests, but its engine answers none
      unhealthy    the model runs, but its health check fails
      degraded     it runs over several pods, and a part of it is missing
      orphaned     its server, head or record is gone; it holds GPUs: `pi stop`
      foreign      its name breaks pi's rule; it is shown, never changed
      dead         with the cause
      ended        by its lease (`pi lease`), after some time without work
      unreachable  the pod did not answer; its models stay on the list
      unknown      the pod answered with an error; its models stay on the list

    \b
    Examples:
      pi list
      pi list --all --watch
      pi list --all --json
      pi stop $(pi list --quiet)
    """
    current = state.load()
    # Without pods, `--all` has nothing to ask, and `--watch` would wait for ever.
    chosen = current.select(pod or [], every=every and (bool(current.pods) or not watch))
    pods = _with_peers(current, chosen)
    if watch:
        if quiet:
            raise BadUsage("`--watch` and `--quiet` exclude each other", hint="leave one of them out")
        _watch(pods, check=check, wide=wide, as_json=as_json)
        return
    from pi_cli.models import model_status
    from pi_cli.view import pods as pods_view
    from pi_cli.view import terminal

    ports = _public_ports() if check else None
    models, failures = _survey(pods, ports) if ports else ([], {})
    if ports and (others := _unasked(models, pods)):
        more, failed = _survey(others, ports)
        models, failures, pods = [*models, *more], failures | failed, {**pods, **others}
    for name in failures if check else pods:
        status = model_status.status_after(failures[name]) if check else "unchecked"
        models += model_status.remembered(name, pods[name], status)
    models.sort(key=lambda model: (list(pods).index(model.pod), model.name))
    models = _joined(models, pods, failures, chosen)
    for name in set(failures) - set(chosen):
        terminal.note(f"{name}: {failures.pop(name)}")
    if quiet:
        rows.show_names(_names(models), as_json=as_json)
    elif as_json:
        priced = _priced(pods)
        terminal.show_json([_as_json(model, priced.get(model.pod, pods[model.pod])) for model in models])
    elif models:
        from pi_cli.view import listing as view

        view.show(models, is_wide=wide)
        pods_view.show_costs(_priced(pods))
    elif not pods:
        terminal.note('there are no pods yet; set one up with `pi pods setup NAME "ssh root@HOST"`')
    elif not failures:
        terminal.note(f"no models on {', '.join(pods)}; start one with `pi start MODEL --name NAME`")
        pods_view.show_costs(_priced(pods))
    if ports:
        ports.remember()
    raise_any(failures)


def _public_ports() -> "PublicPorts":
    from pi_cli.models.public_ports import PublicPorts

    return PublicPorts()


def _names(models: "Iterable[Listed]") -> Iterator[str]:
    """Yield the names that other commands take, without models that are dead or that pi does not change."""
    current = state.load()
    for listed in models:
        if listed.status not in ("dead", "ended", "foreign"):
            yield current.spelled(listed.pod, listed.name)


def _with_peers(current: "State", pods: Mapping[str, Pod]) -> Mapping[str, Pod]:
    """Return these pods and those with other parts of their models."""
    if not any(model.role for _, _, model in current.models()):
        return pods
    from pi_cli.models import parts

    return parts.with_peers(current, pods)


def _unasked(models: "list[Listed]", asked: Mapping[str, Pod]) -> Mapping[str, Pod]:
    """Return the pods with other parts of models that another client has started."""
    if not any(listed.model.role for listed in models):
        return {}
    from pi_cli.models import parts

    return parts.unasked(state.load(), models, asked)


def _joined(
    models: "list[Listed]", asked: Mapping[str, Pod], failures: "Mapping[str, PiError]", chosen: Mapping[str, Pod]
) -> "list[Listed]":
    """Return one row for all parts of a model; of the pods that were not chosen, only what is a part of one there."""
    if not any(listed.model.role for listed in models):
        return models
    from pi_cli.models import parts

    rows = parts.joined(models, [name for name in asked if name not in failures], state.load().pods)
    return [row for row in rows if row.pod in chosen or parts.is_on(row.model, chosen)]


def _survey(pods: Mapping[str, Pod], ports: "PublicPorts") -> "tuple[list[Listed], dict[str, PiError]]":
    """Ask all pods at once; return their models, and the errors of the pods that did not answer.

    On a terminal, the models of pods that have answered are shown while pi waits for the others.
    """
    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    models: list[Listed] = []
    with (
        _board(pods) as board,
        nullcontext(board.report) if board else progress.following(pods, is_late=True) as report,
    ):

        async def survey(session: "PodSession") -> None:
            on_pod = await listing.survey(session, pods[session.pod], report, ports)
            models.extend(on_pod)
            if board:
                board.see(session.pod, on_pod)

        async def ask() -> dict[str, PiError]:
            async with ports.asking(pods):
                return await fleet.on_each(pods, survey, at_once=True)

        return models, interrupts.run(ask())


def _board(pods: Mapping[str, Pod]) -> "AbstractContextManager[Board | None]":
    """Return the live table for several pods on a terminal, else None."""
    if len(pods) < 2 or not sys.stdout.isatty() or not sys.stderr.isatty():
        return nullcontext()
    from pi_cli.view import listing as view

    return view.live_board(pods, stays=False)


def _watch(pods: Mapping[str, Pod], *, check: bool, wide: bool, as_json: bool) -> None:
    """Survey the pods until Ctrl+C; show a live table, or a line of JSON for each survey of a pod."""

    from pi_cli.models import listing
    from pi_cli.view import listing as view
    from pi_cli.view import terminal

    if not check:
        raise BadUsage("`--watch` and `--no-check` exclude each other", hint="leave one of them out")
    if as_json:

        def show(pod: str, models: "list[Listed]") -> None:
            terminal.show_json_line({"pod": pod, "models": [_as_json(model, pods[pod]) for model in models]})

        interrupts.run(listing.watch(pods, show, lambda _: None))
        return
    if not sys.stdout.isatty():
        raise BadUsage(
            "`--watch` needs a terminal on stdout", hint="give `--json` to print a line for each survey of a pod"
        )
    with view.live_board(pods, stays=True, is_wide=wide) as board:
        interrupts.run(listing.watch(pods, board.see, board.report))


def _priced(pods: Mapping[str, Pod]) -> Mapping[str, Pod]:
    """Return the present entries of the pods that have a price."""
    if not any(pod.price for pod in pods.values()):
        return {}
    return {name: pod for name, pod in state.load().pods.items() if name in pods}


def _part_as_json(part: "Listed") -> dict[str, object]:
    process = {"gpus": part.model.gpus, "pid": part.model.pid}
    return {"pod": part.pod, "role": part.model.role, "status": part.status, **process}


def _as_json(listed: "Listed", pod: Pod) -> dict[str, object]:
    from pi_cli.models import lease_words

    running, waiting = listed.requests or (None, None)
    used, total = listed.memory or (None, None)
    downloaded, size = listed.progress or (None, None)
    status = {
        "status": listed.status,
        "phase": listed.phase,
        "downloaded_bytes": downloaded,
        "download_bytes": size,
        "cause": listed.cause,
        "cause_line": listed.line,
        "hint": listed.hint,
        "log": listed.log,
        "age_seconds": None if listed.age is None else round(listed.age),
        "gpu_memory_used_mib": used,
        "gpu_memory_total_mib": total,
        "requests_running": running,
        "requests_waiting": waiting,
        "idle_seconds": None if listed.idle is None else round(listed.idle),
        "lease": lease_words.as_json(listed.lease),
        "lease_end": lease_words.end_as_json(listed.lease_end),
        "url": listed.url,
        "answers_from_here": listed.answers_here,
        "answers_checked_seconds": None if listed.asked_ago is None else round(listed.asked_ago),
        "command": _command(listed),
        "parts": [_part_as_json(part) for part in listed.parts] or None,
    }
    return rows.as_json(listed.pod, listed.name, listed.model) | status | costs.as_json(pod)


def _command(listed: "Listed") -> str | None:
    """Return the `pi start` that the model was started with, as far as this machine has done it."""
    from pi_cli import hints
    from pi_cli.models import recorded_command

    command = recorded_command.typed(listed.name, listed.model)
    return hints.command(*command.argv) if command else None

"""`pi list`: models and their current status."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import AsJson, NamesOnly, OnPods, Wide
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import costs, state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.model_status import Listed
    from pi_cli.ssh.session import PodSession
    from pi_cli.view.listing import Board


def list_models(
    pod: OnPods = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="List the models of all pods.")] = False,
    check: Annotated[bool, typer.Option(help="Ask the pods; otherwise list what pi has recorded.")] = True,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the list up to date until Ctrl+C.")] = False,
    wide: Wide = False,
    quiet: NamesOnly = False,
    as_json: AsJson = False,
) -> None:
    """List models and their current status.

    Shows GPUs and their memory, port, PID, status, requests and endpoint. A model takes one line; on a narrow terminal
    the least important columns are left out, and `--wide` shows all. A running model that is not on pi's list is added
    to it; a dead model is shown once, with the cause, and removed from it. `pi ls` and `pi ps` do the same.

    With `--quiet`, prints the names of the models that can be stopped, as POD/NAME where the pod is not the active one.

    \b
    Status:
      starting     with the phase of the start
      ready        the server answers
      unhealthy    the model runs, but its health check fails
      orphaned     its server or its record is gone, and it holds GPUs: `pi stop`
      foreign      its name breaks pi's rule; it is shown, never changed
      dead         with the cause
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
    pods = current.select(pod or [], every=every and (bool(current.pods) or not watch))
    if watch:
        if quiet:
            raise BadUsage("`--watch` and `--quiet` exclude each other", hint="leave one of them out")
        _watch(pods, check=check, wide=wide, as_json=as_json)
        return
    from pi_cli.models import model_status
    from pi_cli.view import pods as pods_view
    from pi_cli.view import terminal

    models, failures = _survey(pods, as_json=as_json) if check else ([], {})
    for name in failures if check else pods:
        status = model_status.status_after(failures[name]) if check else "unchecked"
        models += model_status.remembered(name, pods[name], status)
    models.sort(key=lambda model: (list(pods).index(model.pod), model.name))
    if quiet:
        options.show_names(_names(models), as_json=as_json)
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
    raise_any(failures)


def _names(models: "Iterable[Listed]") -> Iterator[str]:
    """Yield the names that other commands take, without models that are dead or that pi does not change."""
    current = state.load()
    for listed in models:
        if listed.status not in ("dead", "foreign"):
            yield current.spelled(listed.pod, listed.name)


def _survey(pods: Mapping[str, Pod], *, as_json: bool) -> "tuple[list[Listed], dict[str, PiError]]":
    """Ask all pods at once; return their models, and the errors of the pods that did not answer.

    On a terminal, the models of pods that have answered are shown while pi waits for the others.
    """
    import asyncio

    from pi_cli.commands import lazy
    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    models: list[Listed] = []
    with _board(pods) as board, nullcontext(board.report) if board else progress.following(pods) as report:

        async def survey(session: "PodSession") -> None:
            on_pod = await listing.survey(session, pods[session.pod], report)
            models.extend(on_pod)
            if board:
                board.see(session.pod, on_pod)

        if not as_json:
            lazy.load_ahead("pi_cli.view.listing")
        return models, asyncio.run(fleet.on_each(pods, survey))


def _board(pods: Mapping[str, Pod]) -> "AbstractContextManager[Board | None]":
    """Return the live table for several pods on a terminal, else None."""
    if len(pods) < 2 or not sys.stdout.isatty() or not sys.stderr.isatty():
        return nullcontext()
    from pi_cli.view import listing as view

    return view.live_board(pods, stays=False)


def _watch(pods: Mapping[str, Pod], *, check: bool, wide: bool, as_json: bool) -> None:
    """Survey the pods until Ctrl+C; show a live table, or a line of JSON for each survey of a pod."""
    import asyncio

    from pi_cli.models import listing
    from pi_cli.view import listing as view
    from pi_cli.view import terminal

    if not check:
        raise BadUsage("`--watch` and `--no-check` exclude each other", hint="leave one of them out")
    if as_json:

        def show(pod: str, models: "list[Listed]") -> None:
            terminal.show_json_line({"pod": pod, "models": [_as_json(model, pods[pod]) for model in models]})

        asyncio.run(listing.watch(pods, show, lambda _: None))
        return
    if not sys.stdout.isatty():
        raise BadUsage(
            "`--watch` needs a terminal on stdout", hint="give `--json` to print a line for each survey of a pod"
        )
    with view.live_board(pods, stays=True, is_wide=wide) as board:
        asyncio.run(listing.watch(pods, board.see, board.report))


def _priced(pods: Mapping[str, Pod]) -> Mapping[str, Pod]:
    """Return the present entries of the pods that have a price."""
    if not any(pod.price for pod in pods.values()):
        return {}
    return {name: pod for name, pod in state.load().pods.items() if name in pods}


def _as_json(listed: "Listed", pod: Pod) -> dict[str, object]:
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
        "url": listed.url,
        "answers_from_here": listed.answers_here,
    }
    return options.as_json(listed.pod, listed.name, listed.model) | status | costs.as_json(pod)

"""`pi list`: models as they are on their pods now."""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import options
from pi_cli.commands.options import AsJson, OnPods
from pi_cli.errors import BadUsage, PiError, raise_any
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from pi_cli.models.model_status import Listed
    from pi_cli.ssh.session import PodSession
    from pi_cli.view.listing import Board


def list_models(
    pod: OnPods = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="The models of all pods.")] = False,
    check: Annotated[bool, typer.Option(help="Ask the pods; without, what pi remembers.")] = True,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on looking, until Ctrl+C.")] = False,
    as_json: AsJson = False,
) -> None:
    """List models as they are on their pods now.

    With GPUs and their memory, port, PID, status, requests and endpoint. A model found running that pi did not know is
    added; one that is dead is shown with its cause a last time, and forgotten.

    \b
    Status:
      starting     with the phase of its start
      ready        its server answers
      unhealthy    it lives, and its health check fails
      orphaned     its engine lives without its server, and holds its GPUs: `pi stop` ends it
      dead         with the cause
      unreachable  the pod did not answer; nothing is forgotten

    \b
    Examples:
      pi list
      pi list --all --watch
      pi list --all --json
    """
    where = state.load().select(pod or [], every=every)
    if watch:
        _watch(where, check=check, as_json=as_json)
        return
    from pi_cli.models import model_status
    from pi_cli.view import terminal

    found, failures = _survey(where, as_json=as_json) if check else ([], {})
    for each in failures if check else where:
        status = "unreachable" if check else "unchecked"
        found += model_status.remembered(each, where[each], status)
    found.sort(key=lambda one: (list(where).index(one.pod), one.name))
    if as_json:
        terminal.show_json([_as_json(one) for one in found])
    elif found:
        from pi_cli.view import listing as view

        view.show(found)
    elif not failures:
        terminal.note(f"no models on {', '.join(where)}; start one with `pi start MODEL --name NAME`")
    raise_any(failures)


def _survey(where: Mapping[str, Pod], *, as_json: bool) -> "tuple[list[Listed], dict[str, PiError]]":
    """Ask all pods at once; return the models found, and the pods that did not answer.

    On a terminal the models of the pods that have answered are shown while others are waited for.
    """
    import asyncio

    from pi_cli.commands import lazy
    from pi_cli.models import listing
    from pi_cli.pods import fleet
    from pi_cli.view import progress

    listed: list[Listed] = []
    with _board(where) as board, nullcontext(board.report) if board else progress.following(where) as report:

        async def look(session: "PodSession") -> None:
            found = await listing.survey(session, where[session.pod], report)
            listed.extend(found)
            if board:
                board.see(session.pod, found)

        if not as_json:
            lazy.load_ahead("pi_cli.view.listing")
        return listed, asyncio.run(fleet.on_each(where, look))


def _board(where: Mapping[str, Pod]) -> "AbstractContextManager[Board | None]":
    """Return what shows models while other pods are waited for, where that can be seen."""
    if len(where) < 2 or not sys.stdout.isatty() or not sys.stderr.isatty():
        return nullcontext()
    from pi_cli.view import listing as view

    return view.live(where, stays=False)


def _watch(where: Mapping[str, Pod], *, check: bool, as_json: bool) -> None:
    """Show the pods as they are, again and again: a live table, or a line of JSON for every look at a pod."""
    import asyncio

    from pi_cli.models import listing
    from pi_cli.view import listing as view
    from pi_cli.view import terminal

    if not check:
        raise BadUsage("`--watch` looks at the pods, which `--no-check` forbids")
    if as_json:

        def see(pod: str, found: "list[Listed]") -> None:
            terminal.show_json_line({"pod": pod, "models": [_as_json(one) for one in found]})

        asyncio.run(listing.watch(where, see, lambda _: None))
        return
    if not sys.stdout.isatty():
        raise BadUsage(
            "`--watch` draws on a terminal, and stdout is none", hint="give `--json` to get a line for every look"
        )
    with view.live(where, stays=True) as board:
        asyncio.run(listing.watch(where, board.see, board.report))


def _as_json(listed: "Listed") -> dict[str, object]:
    running, waiting = listed.requests or (None, None)
    used, total = listed.memory or (None, None)
    done, whole = listed.progress or (None, None)
    now = {
        "status": listed.status,
        "phase": listed.phase,
        "downloaded_bytes": done,
        "download_bytes": whole,
        "cause": listed.cause,
        "log": listed.log,
        "age_seconds": None if listed.age is None else round(listed.age),
        "gpu_memory_used_mib": used,
        "gpu_memory_total_mib": total,
        "requests_running": running,
        "requests_waiting": waiting,
        "url": listed.url,
        "answers_from_here": listed.answers_here,
    }
    return options.as_json(listed.pod, listed.name, listed.model) | now

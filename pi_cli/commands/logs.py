"""`pi logs`: what vLLM prints."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands import quantities
from pi_cli.commands.names import complete_model
from pi_cli.commands.options import OnPods, point_to_other_pod
from pi_cli.errors import BadUsage, raise_any
from pi_cli.store import state
from pi_cli.store.records import Pod

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.errors import PiError

LAST = 100  # lines to begin with when nothing else is said

Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names of models.", autocompletion=complete_model)]
Lines = Annotated[
    str | None,
    typer.Option(
        "--lines",
        "-n",
        metavar="LINES",
        help=f"How many last lines to begin with, or `all`.  [default: {LAST}; all with --since or --grep]",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Begin so long ago (10m, 2h, 1d), or at a time as it is on the pod."),
]
Grep = Annotated[str | None, typer.Option(metavar="REGEX", help="Show only lines that match; sought on the pod.")]
Follow = Annotated[bool, typer.Option(help="Go on as the log grows.")]


def logs(
    names: Names,
    pod: OnPods = None,
    lines: Lines = None,
    since: Since = None,
    grep: Grep = None,
    follow: Follow = True,
) -> None:
    """Show and follow what vLLM prints.

    The last lines, then what comes, until the model is dead. A link that is lost is made again, and no line is lost.
    Ctrl+C ends the watching, never vLLM.

    \b
    Examples:
      pi logs qwen72b
      pi logs qwen72b glm --pod dc1 --pod dc2
      pi logs qwen72b --since 10m --grep 'ERROR|WARNING'
      pi logs qwen72b --since 13:30 --no-follow
      pi logs qwen72b -n all --no-follow > qwen72b.log
    """
    import asyncio

    count = _count(lines, LAST if since is None and grep is None else None)
    moment = None if since is None else read_moment(since)
    _check_pattern(grep)
    current = state.load()
    where = current.select(pod or [])
    for name in names:
        state.check_name("model", name)
        if not pod:
            point_to_other_pod(current, where, name)
    from pi_cli.models import logs as models
    from pi_cli.view import logs as view

    sources = [models.Source(on, name) for on, name in _spread(where, names)]
    query = models.LogQuery(count, moment, grep, follow)

    async def watch() -> "dict[str, PiError]":
        failures: dict[str, PiError] = {}
        async with view.showing(sources) as shown:
            failures |= await models.follow(where, sources, query, sink=shown.write, report=shown.note)
        return failures

    raise_any(asyncio.run(watch()))


def _count(lines: str | None, default: int | None) -> int | None:
    if lines is None:
        return default
    if lines != "all" and not lines.isdecimal():
        raise BadUsage(f"`{lines}` is not a number of lines", hint="give a number, or `all`")
    return None if lines == "all" else int(lines)


def read_moment(text: str) -> "protocol.Moment":
    """Read a moment as the pod's agent takes it, so that only the pod's clock counts.

    >>> read_moment("1h30m"), read_moment("13:30"), read_moment("2026-01-31 13:30")
    ({'ago': 5400.0}, {'clock': '13:30:00'}, {'local': '2026-01-31T13:30:00'})
    """
    if (seconds := quantities.span(text)) is not None:
        return {"ago": seconds}
    if re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?", text):
        return {"clock": text if text.count(":") == 2 else f"{text}:00"}
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadUsage(f"`{text}` is no time", hint="give `10m`, `2h`, `1d`, `13:30` or `2026-01-31T13:30`") from error
    if moment.tzinfo:
        return {"utc": moment.timestamp()}
    return {"local": moment.isoformat(timespec="seconds")}


def _check_pattern(pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise BadUsage(
            f"`{pattern}` is no regular expression: {error}", hint="put `\\` before signs that stand for themselves"
        ) from error


def _spread(where: Mapping[str, Pod], names: list[str]) -> list[tuple[str, str]]:
    """Return on which pods to look for the models: where they are known, else on all."""
    spread = []
    for name in dict.fromkeys(names):
        known = [on for on, pod in where.items() if name in pod.models]
        spread += [(on, name) for on in known or where]
    return spread

"""`pi logs`: show and follow the log of vLLM."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pi_cli import interrupts
from pi_cli.commands import resolve
from pi_cli.errors import BadUsage, PodUnreachable, raise_any
from pi_cli.store import quantities, state

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.commands.quick_options import AllLines, AsLines, Follow, Grep, Lines, NamesOfLogs, OnPods, Since
    from pi_cli.commands.resolve import Place
    from pi_cli.errors import PiError
    from pi_cli.store.state import State

DEFAULT_LINES = 100


def logs(
    names: "NamesOfLogs" = None,
    pod: "OnPods" = None,
    lines: "Lines" = None,
    since: "Since" = None,
    grep: "Grep" = None,
    follow: "Follow" = True,
    as_json: "AsLines" = False,
    all_lines: "AllLines" = False,
) -> None:
    """Show and follow the log of vLLM.

    Prints the last lines, then follows the log until the model exits. Reconnects after a lost connection without
    losing lines. Ctrl+C stops following; vLLM keeps running. Requests with which pi itself looks at the model are left
    out, except with --grep and --all-lines.

    \b
    Examples:
      pi logs qwen72b
      pi logs qwen72b dc2/glm
      pi logs qwen72b --since 10m --grep 'ERROR|WARNING'
      pi logs qwen72b --since 13:30 --no-follow
      pi logs qwen72b -n all --no-follow > qwen72b.log
      pi logs qwen72b --json | jq -r .line
    """

    count = _count(lines, DEFAULT_LINES if since is None and grep is None else None)
    moment = None if since is None else read_moment(since)
    _check_pattern(grep)
    current = state.load()
    places = _places(current, names or [], pod or [])
    pods = current.select(place.pod for place in places)
    from pi_cli.models import logs as models
    from pi_cli.view import logs as view

    sources = [models.Source(pod_name, name) for pod_name, name in places]
    query = models.LogQuery(count, moment, grep, follow, looks=all_lines)

    async def follow_all() -> "dict[str, PiError]":
        failures: dict[str, PiError] = {}
        async with view.showing(sources, as_json=as_json) as screen:
            failures |= await models.follow(pods, sources, query, sink=screen.write, report=screen.note)
        return failures

    failures = interrupts.run(follow_all())
    for pod_name, error in failures.items():
        if isinstance(error, PodUnreachable):
            resolve.doubt(error, current, pod_name, [place.name for place in places if place.pod == pod_name])
    raise_any(failures)


def _count(lines: str | None, default: int | None) -> int | None:
    if lines is None:
        return default
    if lines != "all" and not lines.isdecimal():
        raise BadUsage(f"`{lines}` is not a number of lines", hint="give a number, or `all`")
    return None if lines == "all" else int(lines)


def read_moment(text: str) -> "protocol.Moment":
    """Read a time as the pod's agent expects it: the pod's clock decides, not this machine's.

    >>> read_moment("1h30m"), read_moment("13:30"), read_moment("2026-01-31 13:30")
    ({'ago': 5400.0}, {'clock': '13:30:00'}, {'local': '2026-01-31T13:30:00'})
    """
    if (seconds := quantities.duration(text)) is not None:
        return {"ago": seconds}
    if re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?", text):
        return {"clock": text if text.count(":") == 2 else f"{text}:00"}
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        hint = "give `10m`, `2h`, `1d`, `13:30` or `2026-01-31T13:30`"
        raise BadUsage(f"`{text}` is not a time", hint=hint) from error
    if moment.tzinfo:
        return {"utc": moment.timestamp()}
    return {"local": moment.isoformat(timespec="seconds")}


def _check_pattern(pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise BadUsage(
            f"`{pattern}` is not a valid regular expression: {error}",
            hint="put `\\` before a special character to match it literally",
        ) from error


def _places(current: "State", names: Sequence[str], pods: Sequence[str]) -> "list[Place]":
    """Return where the logs are; a model without its pod is on those of `pods` that list it, or on all if none does."""
    if not names:
        return resolve.place_of_only(current, pods)
    found: list[Place] = []
    for name in names:
        places = resolve.places(current, [name], pods)
        state.check_name("model", places[0].name)
        found += [place for place in places if place.name in current.pod(place.pod).models] or places
    return list(dict.fromkeys(found))

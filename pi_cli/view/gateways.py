"""A gateway while it runs: its URL goes to stdout, what comes and goes to stderr."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.gateway.events import BalancerEnded, Event, Joined, Left, LeftOut, PodAway, PodChanged, Serving
from pi_cli.hints import fill
from pi_cli.view import tables, terminal
from pi_cli.view.columns import Cell, Column

if TYPE_CHECKING:
    from pi_cli.gateway.status import ReplicaStatus
    from pi_cli.store.gateways import Gateway

KINDS = {
    Serving: "serving",
    Joined: "up",
    Left: "down",
    LeftOut: "left-out",
    PodAway: "pod-away",
    PodChanged: "pod-changed",
    BalancerEnded: "balancer-ended",
}


CHANGES = {
    "added": "`{pod}` is on pi's list now: connecting to it",
    "replaced": "`{pod}` is another machine now: the link to the former one is closed, connecting to the new one",
    "renamed": "`{was}` is called `{pod}` now",
    "removed": "`{pod}` is not on pi's list any more: its models get no more requests",
    "retried": "`{pod}` was set up again: connecting to it",
}


class GatewayPrinter:
    """Prints what happens, and the URL once."""

    def __init__(self) -> None:
        self._is_announced = False

    def show(self, event: Event) -> None:
        match event:
            case Serving(url=url) if not self._is_announced:
                self._is_announced = True
                terminal.say(url)
                if sys.stdout.isatty():
                    terminal.note('serving until Ctrl+C; `eval "$(pi env --gateway NAME)"` in another terminal')
            case Serving(after=after):
                terminal.note(f"the gateway answers again, after {units.age(after)}")
            case Joined(pod=pod, name=name, context=context, after=after):
                again = "is up" if after is None else f"is up again, after {units.age(after)}"
                length = f", context {context:,} tokens" if context else ""
                terminal.note(f"`{name}` on `{pod}` {again}{length}")
            case Left(pod=pod, name=name, reason=reason):
                terminal.note(f"`{name}` on `{pod}` is down: {reason}")
            case LeftOut(pod=pod, name=name, reason=reason):
                terminal.note(f"`{name}` on `{pod}` is left out: {reason}")
            case PodAway(pod=pod, reason=reason):
                terminal.note(f"no model of `{pod}` is known: {reason}")
            case PodChanged(pod=pod, change=change, was=was):
                terminal.note(fill(CHANGES[change], pod=pod, was=was or ""))
            case BalancerEnded(how=how):
                terminal.note(f"the balancer ended {how}; it is started again")


def show_as_json(event: Event) -> None:
    """Print a line of JSON for what has happened."""
    fields = asdict(event)
    if "after" in fields:
        after = fields.pop("after")
        fields["down_seconds"] = after and round(after, 1)
    if "was" in fields and fields["was"] is None:
        del fields["was"]
    if "context" in fields:
        fields["context_length"] = fields.pop("context")
    terminal.show_json_line({"event": KINDS[type(event)]} | fields)


STATE_STYLES = {"up": "green", "ejected": "yellow", "down": "red", "left out": "dim"}
STATUS = (
    Column("MODEL"),
    Column("POD"),
    Column("STATE"),
    Column("REQUESTS", is_right=True),
    Column("NOW", 2, is_right=True),
    Column("TOKENS/S", 1, is_right=True),
    Column("EJECTIONS", 3, is_right=True),
    Column("CONTEXT", 4, is_right=True),
)


def show_status(found: "Sequence[tuple[Gateway, Sequence[ReplicaStatus]]]", *, is_wide: bool = False) -> None:
    """Print each gateway's URL and a table of its replicas."""
    for gateway, replicas in found:
        terminal.say(gateway.url if gateway.is_up else f"{gateway.url} (the balancer is being started)")
        rows = [
            {
                "MODEL": Cell(each.replica.name),
                "POD": Cell(each.replica.pod),
                "STATE": Cell(each.state, STATE_STYLES[each.state]),
                "REQUESTS": _number(each.requests),
                "NOW": _number(each.active),
                "TOKENS/S": _number(each.tokens),
                "EJECTIONS": _number(each.ejections),
                "CONTEXT": _number(each.replica.context),
            }
            for each in replicas
        ]
        if rows:
            tables.show(STATUS, rows, is_wide=is_wide)
        for each in replicas:
            if each.replica.left_out:
                terminal.note(f"`{each.replica.name}` on `{each.replica.pod}` is left out: {each.replica.left_out}")


def show_status_as_json(found: "Sequence[tuple[Gateway, Sequence[ReplicaStatus]]]") -> None:
    """Print a list of gateways."""
    terminal.show_json(
        [
            {
                "url": gateway.url,
                "port": gateway.port,
                "pid": gateway.pid,
                "metrics_port": gateway.metrics_port,
                "serving": gateway.is_up,
                "replicas": [
                    {
                        "name": each.replica.name,
                        "pod": each.replica.pod,
                        "state": each.state,
                        "requests": each.requests,
                        "requests_running": each.active,
                        "failures": each.failures,
                        "ejections": each.ejections,
                        "tokens_out": each.tokens,
                        "context_length": each.replica.context,
                        "reason": each.replica.left_out,
                    }
                    for each in replicas
                ],
            }
            for gateway, replicas in found
        ]
    )


def _number(value: float | None) -> Cell:
    return Cell("-" if value is None else f"{value:,.0f}")

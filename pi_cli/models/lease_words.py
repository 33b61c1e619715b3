"""Leases in words and in JSON: how much is left of one, what is unusual about it, how one has ended a model."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.pods.reports import Lease, LeaseEnd
    from pi_cli.store.records import Price

RECENT = 20 * 3600  # seconds; the time of day alone says when that was
SHOWN, MOST_SHOWN = 7 * 86400, 10  # seconds for which the end of a model is shown, and how many
SHORTEST_OFF = 60  # seconds that are worth naming


def ended(end: "LeaseEnd", price: "Price | None" = None) -> str:
    """Return how a lease has ended a model, after its name: `ended after 45m idle, 03:12; the pod was stopped`."""
    when = moment(end.at)
    match end.why:
        case "idle":
            what = f"ended after {units.span(end.idle)} idle, {when}"
        case "load":
            what = f"was ended because it was not ready after {units.span(end.idle)}, {when}"
        case "died":
            what = f"had died {units.span(end.idle)} before {when}"
    if end.outcome == "stuck":
        what += ", but has a process that cannot be killed"
    return f"{what}; {_pod(end, price)}"


def _pod(end: "LeaseEnd", price: "Price | None") -> str:
    """Return what became of the pod after the end of a model."""
    match end.pod:
        case "billed":
            return "the pod is still billed"
        case "kept":
            names = ", ".join(f"`{name}`" for name in end.others) or "another model"
            return f"the pod was not stopped: {names} needed it"
        case "asked":
            return "its provider was asked to stop the pod, and the answer is not known"
        case "failed":
            return f"the pod was not stopped, and is billed: {end.reason}"
        case "stopped":
            if end.off < SHORTEST_OFF:
                return "the pod was stopped"
            saved = f", which saved ≈ {price.sum(price.amount * end.off / 3600)}" if price else ""
            return f"the pod was stopped for {units.span(end.off)}{saved}"


def latest(ends: "Sequence[LeaseEnd]", names: Collection[str]) -> "list[LeaseEnd]":
    """Return the ends of the last days that are worth a line, of these models if any are named, the latest last."""
    now = datetime.now().astimezone().timestamp()
    recent = [end for end in ends if now - end.at < SHOWN and (not names or end.name in names)]
    return recent[-MOST_SHOWN:]


def moment(at: float) -> str:
    """Return a time as this machine's clock shows it, with the date if it is not recent."""
    then, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    return f"{then:%H:%M}" if abs((now - then).total_seconds()) < RECENT else f"{then:%Y-%m-%d %H:%M}"


def left(lease: "Lease") -> str:
    """Return how long a model may stay without work, or why its clock stands still: `44m`, `no answer`."""
    if lease.left is not None:
        return units.span(lease.left)
    return {
        "loading": "not ready",
        "silent": "no answer",
        "ending": "ending",
        "stuck": "cannot end",
        "stopping-pod": "stopping pod",
    }.get(lease.phase, "-")


def remarks(lease: "Lease", pod: str) -> list[str]:
    """Return what is to be said of a lease that does not simply run."""
    said = []
    if lease.watcher == "revived":
        said.append(f"what watches the lease of `{lease.name}` had died, and was started again")
    elif lease.watcher == "dead":
        again = "what watches the lease of `{name}` is dead; `pi lease {name} {time} --pod {pod}` starts it again"
        said.append(fill(again, name=lease.name, pod=pod, time=units.span(lease.seconds)))
    if lease.phase == "silent" and lease.phase_seconds > lease.seconds:
        said.append(
            f"`{lease.name}` has not reported its work for {units.span(lease.phase_seconds)}, so its lease does not "
            "end it"
        )
    return said


def as_json(lease: "Lease | None") -> dict[str, object] | None:
    """Return a lease for `--json`."""
    if lease is None:
        return None
    return {
        "seconds": lease.seconds,
        "left_seconds": None if lease.left is None else round(lease.left),
        "phase": lease.phase,
        "phase_seconds": round(lease.phase_seconds),
        "then": lease.then,
        "watcher": lease.watcher,
    }


def end_as_json(end: "LeaseEnd | None") -> dict[str, object] | None:
    """Return the end of a model for `--json`."""
    if end is None:
        return None
    return {
        "at": datetime.fromtimestamp(end.at).astimezone().isoformat(timespec="seconds"),
        "why": end.why,
        "idle_seconds": round(end.idle),
        "outcome": end.outcome,
        "freed_mib": end.freed,
        "pod": end.pod,
        "pod_reason": end.reason or None,
        "pod_others": list(end.others),
        "pod_off_seconds": round(end.off),
    }

"""What `pi up` finds and does, as a short table: a line for each pod and for each replica of a model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pi_cli.safe import safe_line
from pi_cli.view import pods, tables, terminal
from pi_cli.view.columns import Cell, Column

if TYPE_CHECKING:
    from pi_cli.errors import PiError
    from pi_cli.fleet.changes import Changes
    from pi_cli.models.starting import Started

COLUMNS = (Column("NAME"), Column("ACTION"), Column("WHY", 1, least=16))
POD_ACTIONS = {"differs": "needs --restart", "failed": "no answer"}
MODEL_ACTIONS = {"differs": "restart needed", "starting": "is starting", "lease": "set its lease", "unknown": "-"}
STYLES = {"as written": "dim", "failed": "red", "differs": "yellow", "unknown": "dim", "record": "green"}


def show(changes: "Changes", *, restart: bool = False) -> None:
    """Print what is to be done; with `restart` also what is done only then."""
    rows = []
    for pod in changes.pods:
        reasons = str(pod.error) if pod.error else ", ".join(pod.reasons)
        why = reasons or (pod.pod.ssh if pod.is_set_up else "")
        action = "set up again" if restart and pod.action == "differs" else POD_ACTIONS.get(pod.action, pod.action)
        rows.append(_row(pod.pod.name, action, pod.action, why, short="" if reasons else pods.address(pod.pod.ssh)))
    for model in changes.models:
        why = ", ".join(model.reasons) or (model.model.model if model.action == "start" else "")
        action = MODEL_ACTIONS.get(model.action, model.action)
        rows.append(
            _row(model.place, "restart" if restart and model.action == "differs" else action, model.action, why)
        )
    rows += [_row(f"{pod}/{name}", "not in the file", "unknown", "stays") for pod, name in changes.others]
    rows += [_row(name, "not in the file", "unknown", "stays") for name in changes.other_pods]
    if rows:
        tables.show(COLUMNS, rows)
    else:
        terminal.note("the file has no pods and no models")


def _row(name: str, action: str, kind: str, why: str, *, short: str = "") -> dict[str, Cell]:
    style = STYLES.get(kind, "green")
    reason = Cell(safe_line(why), short=short if why else "")
    return {"NAME": Cell(safe_line(name)), "ACTION": Cell(action, style), "WHY": reason}


def show_ready(ready: "Mapping[str, Started]", names: Mapping[str, str]) -> None:
    """Print one line for each model that became ready; then what to type for the first."""
    from pi_cli.view import started as view

    width = max((len(place) for place in ready), default=0)
    for place, each in sorted(ready.items()):
        url = (each.url, "bold") if each.url else view.SSH_ONLY
        terminal.say(("ready", "green"), f"  {place:{width}}  ", url)
    for place, each in list(ready.items())[:1]:
        terminal.say(view.attempt(each, names[place]))


def as_json(
    changes: "Changes", ready: "Mapping[str, Started] | None" = None, failures: "Mapping[str, PiError] | None" = None
) -> list[dict[str, Any]]:
    """Return a row for each pod and replica; `outcome` is None if nothing was done about it."""
    rows = [
        _json_row(change.pod.name, None, None, change.action, change.reasons)
        | _outcome(change.pod.name, change.is_set_up and ready is not None, failures or {})
        for change in changes.pods
    ]
    for model in changes.models:
        each = (ready or {}).get(model.place)
        rows.append(
            _json_row(model.pod, model.model.name, model.model.model, model.action, model.reasons)
            | _outcome(model.place, each is not None, failures or {})
            | {"url": each.url if each else None}
        )
    rows += [_json_row(pod, name, None, "not in the file") for pod, name in changes.others]
    return rows + [_json_row(pod, None, None, "not in the file") for pod in changes.other_pods]


def _json_row(
    pod: str, name: str | None, model: str | None, action: str, reasons: Sequence[str] = ()
) -> dict[str, Any]:
    row = {"pod": pod, "name": name, "model": model, "action": action, "reasons": list(reasons)}
    return row | {"outcome": None, "error": None, "url": None}


def _outcome(place: str, is_done: bool, failures: "Mapping[str, PiError]") -> dict[str, Any]:
    if place in failures:
        return {"outcome": "failed", "error": str(failures[place])}
    return {"outcome": "done"} if is_done else {}

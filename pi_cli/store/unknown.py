"""The errors about pods and models that are not on pi's list, with the names that may have been meant."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pi_cli import hints
from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.safe import safe_line

if TYPE_CHECKING:
    from pi_cli.store.state import State

MAX_LISTED = 6  # pods in a hint


def pod(state: "State", name: str) -> BadUsage:
    """Return the error about a name that no pod has."""
    near = hints.did_you_mean(hints.nearest(name, state.pods))
    return BadUsage(f"there is no pod `{safe_line(name)}`", hint=near or pods(state))


def pod_in_variable(state: "State", variable: str, name: str) -> BadUsage:
    """Return the error about an environment variable that names no pod."""
    near = hints.did_you_mean(hints.nearest(name, state.pods))
    hint = f"{fill('correct it, or `unset {variable}`', variable=variable)}; {near or pods(state)}"
    return BadUsage(f"{variable} is `{safe_line(name)}`, and there is no such pod", hint=hint)


def pods(state: "State") -> str:
    """Return a hint with the pods that there are."""
    if not state.pods:
        return 'set one up with `pi pods setup NAME "ssh root@HOST"`'
    if len(state.pods) > MAX_LISTED:
        return f"see the {len(state.pods)} pods with `pi pods`"
    return f"the pods are {', '.join(f'`{name}`' for name in state.pods)}"


def model(state: "State", names: Sequence[str], pod: str | None = None, *, otherwise: str = "") -> BadUsage:
    """Return the error about models that do not exist (on a pod, if it is given).

    `otherwise` is the hint if no other name may have been meant.
    """
    quoted = hints.one_of([safe_line(name) for name in names])
    hint = meant(state, names[0], pod) or otherwise or "see the models with `pi list --all`"
    return BadUsage(f"there is no model {quoted}{f' on `{pod}`' if pod else ''}", hint=hint)


def meant(state: "State", name: str, pod: str | None = None) -> str:
    """Return a hint with the models on pi's list that a name may mean; no text if there are none.

    These are models of the same name on other pods, of a similar one, with this id, and those of the pod of this name.
    """
    listed = list(state.models())
    similar = dict.fromkeys([name, *hints.nearest(name, (each for _, each, _ in listed))])
    rows = [row for each in similar for row in listed if row[1] == each]
    if pod:  # a stable sort: those on the pod come first
        rows.sort(key=lambda row: row[0] != pod)
    rows = rows or [row for row in listed if name.lower() in (row[2].model.lower(), _short(row[2].model))]
    if not rows and name in state.pods:
        rows = [row for row in listed if row[0] == name]
    spelled = [state.spelled(pod_name, each) for pod_name, each, _ in rows]
    return hints.did_you_mean(list(dict.fromkeys(spelled))[: hints.MAX_NEAREST])


def _short(id: str) -> str:
    return id.rstrip("/").rpartition("/")[2].lower()

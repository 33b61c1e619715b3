"""Which model a name on the command line means: NAME, POD/NAME, `--pod`, PI_POD. All commands read names here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pi_cli import hints
from pi_cli.errors import BadUsage, PodUnreachable
from pi_cli.store import unknown
from pi_cli.store.records import is_name
from pi_cli.store.state import check_name

if TYPE_CHECKING:
    from pi_cli.store.records import Model, Pod
    from pi_cli.store.state import State

TO_START = "start one with `pi start MODEL --name NAME`; `pi list` finds those that other clients started"
MAX_CHOICES = 6


class ModelOnPod(NamedTuple):
    """A model in `pods.json`, and the pod it is on."""

    pod_name: str
    pod: "Pod"
    name: str
    model: "Model"


class Place(NamedTuple):
    """A pod, and the name of a model on it; pi's list may not have the model."""

    pod: str
    name: str


def model(current: "State", typed: str | None, pod: str | None, *, otherwise: str = "") -> ModelOnPod:
    """Find a model of pi's list by NAME or POD/NAME: on the given pod, the default pod, or the only pod that has it.

    Without a name it is the only model. `otherwise` is the hint for a name that no model has and none resembles.
    """
    if typed is None:
        return _only(current, pod)
    [place, *others] = places(current, [typed], [pod] if pod else [])
    assert not others
    entry = current.pod(place.pod)
    if place.name not in entry.models:
        is_named = pod is not None or "/" in typed
        raise unknown.model(current, [place.name], place.pod if is_named else None, otherwise=otherwise)
    return ModelOnPod(place.pod, entry, place.name, entry.models[place.name])


def places(current: "State", typed: Sequence[str], pods: Sequence[str]) -> list[Place]:
    """Return the pods on which models are meant by NAME or POD/NAME; a model without its pod may be on several `pods`.

    Without a pod, a model is looked for on pi's list: on the default pod, then on the others. A name that the list
    does not have is one on the default pod, where another client may have started it.
    """
    for pod in pods:
        current.pod(pod)
    found = [place for each in dict.fromkeys(typed) for place in _places(current, each, pods)]
    return list(dict.fromkeys(found))


def place_of_only(current: "State", pods: Sequence[str]) -> list[Place]:
    """Return the place of the only model on some pods, if no name is given."""
    found = _only(current, *pods)
    return [Place(found.pod_name, found.name)]


def doubt(error: PodUnreachable, current: "State", pod: str, names: Sequence[str]) -> None:
    """Add to the hint of a pod that did not answer that pi's list has no such model, if another may be meant."""
    for name in names:
        if name not in current.pod(pod).models and (meant := unknown.meant(current, name, pod)):
            hint = f"pi's list has no `{name}` on `{pod}`: {meant}"
            error.with_hint(f"{hint} Otherwise: {error.hint}" if error.hint else hint)
            return


def _places(current: "State", typed: str, pods: Sequence[str]) -> list[Place]:
    if not typed.rpartition("/")[2].strip():
        raise BadUsage("the name of the model is empty", hint="see the models with `pi list --all`")
    if "/" in typed:
        prefix, _, name = typed.partition("/")
        if pods and prefix not in pods:
            message = f"`{prefix}/{name}` is not on {hints.one_of(pods)}"
            raise BadUsage(message, hint="name the pod only once")
        if prefix not in current.pods:
            _refuse_pod(current, typed, prefix)
        return [Place(prefix, name)]
    if pods:
        return [Place(pod, typed) for pod in pods]
    default = current.default
    having = [pod for pod, entry in current.pods.items() if typed in entry.models]
    if default in having:
        return [Place(default, typed)]
    if len(having) > 1:
        raise BadUsage(f"`{typed}` runs on several pods", hint=_choose([Place(pod, typed) for pod in having]))
    if having:
        return [Place(having[0], typed)]
    if default is None:
        if current.pods and any(entry.models for entry in current.pods.values()):
            raise unknown.model(current, [typed])
        [default] = current.select()
    return [Place(default, typed)]


def _refuse_pod(current: "State", typed: str, pod: str) -> None:
    """Raise the error about an unknown pod in POD/NAME; the text may also be the id of a model."""
    if not is_name(pod):
        check_name("model", typed)
    name = typed.partition("/")[2]
    meant = unknown.meant(current, typed) or (unknown.meant(current, name) if name else "")
    error = unknown.pod(current, pod)
    near = hints.nearest(pod, current.pods)
    both = [f"{each}/{name}" for each in near if name in current.pod(each).models]
    raise error.with_hint(hints.did_you_mean(both) or meant or str(error.hint))


def _only(current: "State", *pods: str | None) -> ModelOnPod:
    """Return the only model on some pods; without a pod, that on the default pod, or else that on all pods."""
    named = [pod for pod in pods if pod]
    default = None if named else current.default
    chosen = current.select(named) if named or default or not current.pods else current.pods
    listed = list(_models(current, chosen))
    if not listed and not named:
        listed = list(_models(current, current.pods))
    if not listed:
        where = f" on {', '.join(f'`{pod}`' for pod in named)}" if named else ""
        raise BadUsage(f"no model is named, and none runs{where}", hint=TO_START)
    if len(listed) > 1:
        choices = [Place(found.pod_name, found.name) for found in listed]
        raise BadUsage("no model is named, and several run", hint=_choose(choices))
    [found] = listed
    if len(current.pods) > 1 and not named:
        from pi_cli.view import terminal

        terminal.note(f"using `{found.pod_name}/{found.name}`")
    return found


def _models(current: "State", pods: Mapping[str, "Pod"]) -> Iterator[ModelOnPod]:
    for pod, name, model in current.models():
        if pod in pods:
            yield ModelOnPod(pod, current.pod(pod), name, model)


def _choose(places: Sequence[Place]) -> str:
    shown = hints.one_of([f"{place.pod}/{place.name}" for place in places[:MAX_CHOICES]])
    more = len(places) - MAX_CHOICES
    return f"choose one of {shown}{f'; {more} more are in `pi list --all`' if more > 0 else ''}"

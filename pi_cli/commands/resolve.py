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
    if place.name in entry.models and entry.models[place.name].role == "node":
        return _head(current, place)
    if place.name not in entry.models:
        is_named = pod is not None or "/" in typed
        raise unknown.model(current, [place.name], place.pod if is_named else None, otherwise=otherwise)
    return ModelOnPod(place.pod, entry, place.name, entry.models[place.name])


def with_server(current: "State", place: Place) -> Place:
    """Return the place of the head, for a node of a model over several pods."""
    entry = current.pod(place.pod).models.get(place.name)
    return Place(*_head(current, place)[::2]) if entry and entry.role == "node" else place


def _head(current: "State", place: Place) -> ModelOnPod:
    """Return the head of a node's model: only it has a server."""
    from pi_cli.models import parts

    found = parts.head(current, current.pod(place.pod).models[place.name])
    if found is None:
        raise BadUsage(
            f"`{place.name}` on `{place.pod}` is a part of a model whose head is not on pi's list",
            hint=hints.fill("end it with `pi stop {name} --pod {pod}`", name=place.name, pod=place.pod),
        )
    pod, name = found
    return ModelOnPod(pod, current.pod(pod), name, current.pod(pod).models[name])


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
    having = _without_nodes(current, [pod for pod, entry in current.pods.items() if typed in entry.models], typed)
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


def _without_nodes(current: "State", pods: Sequence[str], name: str) -> list[str]:
    """Return the pods that have models of a name, of each model over several pods the head, or else one node."""
    models = {pod: current.pod(pod).models[name] for pod in pods}
    heads = {model.uid for model in models.values() if model.role == "head"}
    found: dict[str, str] = {}
    for pod, model in models.items():
        is_node = model.role == "node"
        if not is_node or model.uid not in heads:
            found.setdefault(str(model.uid) if is_node else pod, pod)
    return list(found.values())


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
    heads = {found.model.uid for found in listed if found.model.role == "head"}
    listed = [found for found in listed if found.model.role != "node" or found.model.uid not in heads]
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
        if pod in pods and model.kind == "model":  # a gateway is only meant by its name
            yield ModelOnPod(pod, current.pod(pod), name, model)


def _choose(places: Sequence[Place]) -> str:
    shown = hints.one_of([f"{place.pod}/{place.name}" for place in places[:MAX_CHOICES]])
    more = len(places) - MAX_CHOICES
    return f"choose one of {shown}{f'; {more} more are in `pi list --all`' if more > 0 else ''}"

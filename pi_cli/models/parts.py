"""The parts of models over several pods: which belong together, and what the list says of all of them. Pure.

Parts are found by their uid. The names of the pods in a record are those of the client that started the model; this
one may call them otherwise.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from pi_cli.hints import fill
from pi_cli.models.model_status import Listed
from pi_cli.store.records import Model, Pod
from pi_cli.store.state import State

ORPHANED_AFTER = 60.0  # seconds of a node without its head: shorter, a start or a stop may be in progress
BEGINNING = 30.0  # seconds of a start in which a part may not be recorded yet
UNSEEN = ("unreachable", "unknown", "unchecked")  # statuses of pods that did not say how their models are


class Part(NamedTuple):
    """A part of a model, by the pod that it is on."""

    pod: str
    name: str
    uid: str


def of(current: State, name: str, model: Model) -> list[Part]:
    """Return all parts of a model over several pods, as far as this list knows the pods; none for another model."""
    if not model.uid or not model.role:
        return []
    listed = {pod: each for pod, each, other in current.models() if other.uid == model.uid}
    peers = {pod: name for pod in model.peers if pod in current.pods}
    return [Part(pod, each, model.uid) for pod, each in (peers | listed).items()]


def on(current: State, pods: Collection[str], names: Mapping[str, Collection[str]] | None = None) -> list[Part]:
    """Return all parts of the models of the list on these pods; with `names`, of those that are named there."""
    found = [
        part
        for pod in pods
        for name, model in current.pod(pod).models.items()
        if names is None or name in names.get(pod, ())
        for part in of(current, name, model)
    ]
    return list(dict.fromkeys(found))


def head(current: State, model: Model) -> tuple[str, str] | None:
    """Return the pod and the name of the head of a node's model, if it is on the list."""
    found = ((pod, name) for pod, name, other in current.models() if other.uid == model.uid and other.role == "head")
    return next(found, None)


def with_peers(current: State, pods: Mapping[str, Pod]) -> dict[str, Pod]:
    """Return these pods, and those with the other parts of their models: only all of them know how a model is."""
    found = dict.fromkeys(part.pod for part in on(current, pods))
    found |= dict.fromkeys(pod for pod, _, model in current.models() if is_on(model, pods))
    return {**pods, **{pod: current.pod(pod) for pod in found if pod not in pods}}


def is_on(model: Model, pods: Collection[str]) -> bool:
    """Return whether a model over several pods has, or had, a part on one of these."""
    return model.role is not None and not set(pods).isdisjoint(model.peers)


def unasked(current: State, models: Iterable[Listed], asked: Collection[str]) -> dict[str, Pod]:
    """Return the pods with other parts of models that were not known before."""
    peers = dict.fromkeys(peer for listed in models for peer in listed.model.peers)
    return {peer: current.pods[peer] for peer in peers if peer in current.pods and peer not in asked}


def joined(models: Sequence[Listed], answered: Collection[str], known: Collection[str]) -> list[Listed]:
    """Return the models with one row for all parts of each; `answered` are the pods that did, `known` all on the list.

    Whatever the head's `/health` says, a model is `degraded` while a part of it is missing.
    """
    alone = [listed for listed in models if not listed.model.role or not listed.model.uid]
    together = sorted((listed for listed in models if listed not in alone), key=lambda listed: str(listed.model.uid))
    rows = [row for _, group in groupby(together, key=_uid) for row in _rows(list(group), answered, known)]
    order = {listed.pod: index for index, listed in reversed(list(enumerate(models)))}
    return sorted([*alone, *rows], key=lambda row: order.get(row.pod, 0))


def _uid(listed: Listed) -> str:
    return str(listed.model.uid)


def _rows(parts: list[Listed], answered: Collection[str], known: Collection[str]) -> list[Listed]:
    alive = [part for part in parts if part.status != "dead"]
    dead = [part for part in parts if part.status == "dead"]
    heads = [part for part in alive if part.model.role == "head"]
    nodes = [part for part in alive if part.model.role == "node"]
    if heads:
        return [_with_head(heads[0], nodes, answered, known)]
    if nodes:
        return [*(part for part in dead if part.model.role == "head"), _without_head(nodes, answered, known)]
    return dead


def _with_head(head: Listed, nodes: list[Listed], answered: Collection[str], known: Collection[str]) -> Listed:
    parts, absent = (head, *nodes), _absent(head, nodes)
    row = replace(head, parts=parts, memory=_memory(parts), pods=(*(part.pod for part in parts), *absent))
    if head.status in UNSEEN:
        return row
    missing = [
        *(_missing(pod, answered, known) for pod in absent),
        *(f"{node.pod} does not answer" for node in nodes if node.status in UNSEEN),
        *(f"{node.pod} has lost its main process" for node in nodes if node.status == "orphaned"),
    ]
    if missing and (head.status != "starting" or (head.age or 0) > BEGINNING):
        hint = fill("end the rest of it with `pi stop {name} --pod {pod}`", name=head.name, pod=head.pod)
        return replace(row, status="degraded", cause=", ".join(missing), hint=hint)
    loading = next((node for node in nodes if node.status == "starting"), None)
    if head.status == "ready" and loading:
        return replace(row, status="starting", phase=loading.phase, progress=loading.progress)
    return row


def _without_head(nodes: list[Listed], answered: Collection[str], known: Collection[str]) -> Listed:
    first = nodes[0]
    here = [node.pod for node in nodes]
    pods = (*(peer for peer in first.model.peers if peer not in here), *here)
    row = replace(first, parts=tuple(nodes), memory=_memory(nodes), pods=pods)
    if first.status in UNSEEN:
        return row
    place = first.model.peers[0] if first.model.peers else "another pod"
    is_gone = place in answered and (first.age or 0) >= ORPHANED_AFTER
    cause = f"its head on {place} is gone" if place in answered else _missing(place, answered, known)
    hint = fill("end it with `pi stop {name} --pod {pod}`", name=first.name, pod=first.pod)
    return replace(row, status="orphaned" if is_gone else "degraded", cause=cause, hint=hint)


def _absent(head: Listed, nodes: list[Listed]) -> list[str]:
    """Return the pods of nodes that are missing; a node on a pod with another name here is one of them."""
    here = {node.pod for node in nodes}
    peers = head.model.peers[1:]
    renamed = len(here.difference(peers))
    absent = [peer for peer in peers if peer not in here]
    return absent[: max(0, len(absent) - renamed)]


def _missing(pod: str, answered: Collection[str], known: Collection[str]) -> str:
    if pod in answered:
        return f"{pod} is gone"
    return f"{pod} does not answer" if pod in known else f"{pod} is not on pi's list"


def _memory(parts: Sequence[Listed]) -> tuple[int, int] | None:
    sizes = [part.memory for part in parts if part.memory]
    return (sum(used for used, _ in sizes), sum(total for _, total in sizes)) if sizes else None

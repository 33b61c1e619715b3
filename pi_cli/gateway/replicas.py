"""Which models on which pods stand behind a gateway: the rules, without a connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pi_cli.models import identity
from pi_cli.pods.reports import RunningModel
from pi_cli.store.keys import ApiKey
from pi_cli.store.records import Pod

Place = tuple[str, str]  # pod, name


@dataclass(frozen=True, slots=True)
class Wanted:
    """The models that a gateway serves: those at `places`, or all of `pods`, also such as are started later.

    `names` are models on every pod that has them, also later. Other pods than those `within` are never used; None: all
    pods may be.
    """

    pods: Mapping[str, Pod]
    places: frozenset[Place] = frozenset()
    is_all: bool = False
    names: frozenset[str] = frozenset()
    within: frozenset[str] | None = None

    def has(self, pod: str, name: str) -> bool:
        return pod in self.pods and (self.is_all or (pod, name) in self.places)

    def known(self, pod: str) -> list[str]:
        """Return the names that are wanted on a pod before it has answered."""
        if self.is_all:
            return sorted(name for name, model in self.pods[pod].models.items() if model.kind == "model")
        return sorted(name for of, name in self.places if of == pod)

    def after(self, pods: Mapping[str, Pod], renamed: Mapping[str, str] | None = None) -> "Wanted":
        """Return what is wanted now that pi's list has these pods; `renamed` are new names by the former ones."""
        new = renamed or {}
        within = None if self.within is None else frozenset(new.get(pod, pod) for pod in self.within)
        allowed = {name: pod for name, pod in pods.items() if within is None or name in within}
        if self.is_all:
            return replace(self, pods=allowed, within=within)
        models = [(pod, name, model.kind) for pod, entry in allowed.items() for name, model in entry.models.items()]
        found = {(pod, name) for pod, name, kind in models if name in self.names and kind == "model"}
        kept = {(new.get(pod, pod), name) for pod, name in self.places}
        places = frozenset(place for place in kept | found if place[0] in allowed)
        return replace(self, pods={pod: allowed[pod] for pod, _ in sorted(places)}, places=places, within=within)


@dataclass(slots=True)
class Member:
    """A model on a pod, as a gateway sees it; `url` is the local port that leads to it, without `/v1`.

    `model` is what it serves, e.g. `Qwen/Qwen3-8B`. `was_up`: the gateway has sent it requests before. `is_leaving`: it
    is about to be stopped, and gets no new requests if another replica can take them.
    """

    pod: str
    name: str
    url: str
    model: str = ""
    context: int | None = None
    is_up: bool = False
    was_up: bool = False
    is_leaving: bool = False
    left_out: str | None = None
    reason: str | None = None

    @property
    def id(self) -> str:
        return f"{self.pod}/{self.name}"


@dataclass(slots=True)
class Members:
    """All models that a gateway knows, in the order in which it met them."""

    by_place: dict[Place, Member] = field(default_factory=dict)

    def workers(self) -> dict[str, str]:
        """Return the workers for the manifest: the members that are up.

        If no member of a name is up, those that were stay: clients are told to come back (503) instead of that there is
        no such model (404).
        """
        usable = [member for member in self.by_place.values() if not member.left_out]
        staying = {member.name for member in usable if member.is_up and not member.is_leaving}
        up = {member.name for member in usable if member.is_up}
        listed = [
            each
            for each in usable
            if (each.is_up and not (each.is_leaving and each.name in staying)) or (each.was_up and each.name not in up)
        ]
        return {member.id: member.url for member in listed}

    def first_of(self, name: str) -> Member | None:
        """Return the member that says which model a name means: the first one that was up."""
        return next((each for each in self.by_place.values() if each.name == name and each.was_up), None)

    def has_other(self, member: Member) -> bool:
        """Return whether another replica of a member's name is up."""
        return any(each.is_up and each is not member and each.name == member.name for each in self.by_place.values())


def why_left_out(model: RunningModel, key: ApiKey, first: Member | None) -> str | None:
    """Return why a gateway with this key must not send requests to a model, None if it may.

    The gateway passes on its clients' key, so it only takes engines that are known to accept it: another one would
    answer its share of the requests with 401, and one that pi did not start may be anybody's.
    """
    if model.kind != "model":
        return "it is a gateway itself"
    if not model.uid or not model.proof_keys:
        return "pi did not start it with its guard, so it cannot prove that it knows the key"
    if not identity.accepts(model, key.value):
        return f"it does not accept the key in {key.origin}"
    if first and first.model and first.model != model.model:
        return f"it serves `{model.model}`, and `{first.name}` on `{first.pod}` serves `{first.model}`"
    return None

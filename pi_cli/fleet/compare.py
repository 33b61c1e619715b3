"""The file, the lock and reality side by side, for `pi diff`. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pi_cli import units
from pi_cli.fleet import reality
from pi_cli.fleet.file import FleetFile, FleetModel, FleetPod
from pi_cli.fleet.lock import Lock
from pi_cli.fleet.reality import ModelFacts, PodFacts, Reality
from pi_cli.models.local_files import ON_POD
from pi_cli.safe import safe_line
from pi_cli.store import quantities
from pi_cli.vllm import abilities, vllm_arguments, vllm_options

if TYPE_CHECKING:
    from agent import protocol

NONE = "-"  # of a side that would say it if it were so
OF_MACHINE = ("gpus", "cuda", "driver", "vllm", "wheel", "files", "torch")
NO_DIFFERENCE = ("driver",)  # the same models run on another driver for the same CUDA
GIVEN = "given"  # the value of a variable of the user, which pi keeps nowhere
CONTEXT, MEMORY = vllm_arguments.CONTEXT_LENGTH[0], vllm_arguments.MEMORY_SHARE[0]


@dataclass(frozen=True, slots=True)
class Row:
    """What each side says about one thing of a pod, or of a model there; None if a side says nothing about it.

    `origin` is where an argument comes from, as far as that is known.
    """

    pod: str
    model: str
    what: str
    file: str | None
    lock: str | None
    runs: str | None
    origin: "protocol.Origin | None" = None

    @property
    def differs(self) -> bool:
        return self.what not in NO_DIFFERENCE and len({self.file, self.lock, self.runs} - {None}) > 1


@dataclass(frozen=True, slots=True)
class Side:
    """What a side says about a model; where it is `complete` (all options, all variables), others are not there."""

    facts: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    complete: frozenset[str] = frozenset()

    def said(self, kind: str, name: str) -> str | None:
        named: Mapping[str, str] = getattr(self, kind)
        text = named.get(name, NONE if kind in self.complete else None)
        return None if text is None else safe_line(text)


def rows(file: FleetFile, lock: Lock | None, running: Reality, recorded: Collection[str]) -> Iterator[Row]:
    """Yield what the three say of the pods of a file; `recorded` are the pods that are set up.

    A pod that is not in `running` has not answered: nothing is said of what runs there.
    """
    for name, pod in file.pods.items():
        locked = lock.pods.get(name) if lock else None
        now = running.get(name)
        if name not in recorded:
            yield Row(name, "", "pod", "in the file", None, "not set up")
        elif lock and locked is None:
            yield Row(name, "", "pod", "in the file", "not locked", None)
        yield from _of_machine(pod, locked, now)
        written = {model.name: model for model in file.models.values() if name in (model.pods or model.across)}
        for model in dict.fromkeys([*written, *(locked.models if locked else ()), *(now.models if now else ())]):
            yield from _of_model(
                name,
                safe_line(model),
                written.get(model),
                locked.models.get(model) if locked else None,
                now.models.get(model) if now else None,
                is_locked=locked is not None,
                has_answered=now is not None or name not in recorded,
            )


def _of_machine(pod: FleetPod, locked: PodFacts | None, now: PodFacts | None) -> Iterator[Row]:
    sides = [_machine(locked), _machine(now)]
    version = (pod.vllm or "").rpartition("==")[2]
    for what in OF_MACHINE:
        then, runs = (side.get(what) for side in sides)
        of_file = version if what == "vllm" and version[:1].isdigit() else None
        if of_file and "+" not in of_file and of_file == (runs or then or "").partition("+")[0]:
            of_file = runs or then  # the build is chosen for the machine
        if (of_file, then, runs) != (None, None, None):
            yield Row(pod.name, "", what, of_file, then, runs)


def _machine(facts: PodFacts | None) -> dict[str, str | None]:
    if facts is None:
        return {}
    named: dict[str, str | None] = {what: getattr(facts, what) for what in OF_MACHINE if what != "gpus"}
    return {"gpus": units.counted(facts.gpus) or NONE, **named}


def _of_model(
    pod: str,
    name: str,
    written: FleetModel | None,
    locked: ModelFacts | None,
    now: ModelFacts | None,
    *,
    is_locked: bool,
    has_answered: bool,
) -> Iterator[Row]:
    of_file = written.model if written else "not in the file"
    of_lock = locked.model if locked else "not locked" if is_locked and written and written.pods else None
    runs = now.model if now else "not running" if has_answered else None
    yield Row(pod, name, "model", of_file, safe_line(of_lock) if of_lock else None, runs)
    then, running = _side(locked), _side(now)
    file = _of_file(written, running if now else then) if written else Side()
    has_commit = bool((locked and locked.commit) or (now and now.commit))
    origins = _origins(now) | _origins(locked)
    for kind in ("facts", "options", "variables"):
        for what in dict.fromkeys(key for side in (file, then, running) for key in getattr(side, kind)):
            if kind == "options" and has_commit and what in vllm_arguments.REVISION:
                continue  # the commit itself is compared
            cells = (file.said(kind, what), then.said(kind, what), running.said(kind, what))
            origin = origins.get(what)
            if origin == "command" and cells[0] is not None:
                origin = "file"
            yield Row(pod, name, safe_line(what), *cells, origin)


def _side(facts: ModelFacts | None) -> Side:
    """Return what the lock, or a model that runs, says; of one that pi did not start, little is known."""
    if facts is None:
        return Side()
    known = {"commit": facts.commit, "vllm": facts.vllm, "gpus": str(facts.gpus) if facts.gpus else None}
    known["private"] = "on" if facts.private else "off"
    options = reality.options(facts.arguments or ())
    if CONTEXT in options:
        options[CONTEXT] = _number(options[CONTEXT])
    return Side(
        {name: value for name, value in known.items() if value is not None},
        options,
        {**facts.variables, **dict.fromkeys(facts.given, GIVEN)},
        frozenset() if facts.arguments is None else frozenset({"options", "variables"}),
    )


def _of_file(model: FleetModel, other: Side) -> Side:
    """Return what the file says, in the words in which a start says it; `other` is what it is compared with."""
    facts = {"private": "on" if model.private else "off"}
    if model.gpus is not None:
        facts["gpus"] = str(model.gpus)
    names = {word.partition("=")[0] for word in model.env}
    others = {name for name, text in other.variables.items() if text == GIVEN} - names
    variables = dict.fromkeys(sorted(names), GIVEN) | dict.fromkeys(sorted(others), NONE)
    if model.vllm is None:
        return Side(facts, dict(_asked(model, other.options)), variables)
    spelled_out = vllm_options.spelled_out(model.vllm, abilities.shipped().options)
    options = {name: _on_pod(text, other.options.get(name)) for name, text in reality.options(spelled_out).items()}
    if CONTEXT in options:
        options[CONTEXT] = _number(options[CONTEXT])
    return Side(facts, options, variables, frozenset({"options"}))


def _asked(model: FleetModel, other: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if model.context:
        yield CONTEXT, str(quantities.tokens(model.context))
    if model.memory:  # the default needs no argument
        share, now = f"{quantities.share(model.memory):.2f}", other.get(MEMORY, NONE)
        is_default = now == NONE and float(share) == vllm_arguments.DEFAULT_MEMORY
        is_same = vllm_arguments.is_share(now) and f"{float(now):.2f}" == share
        yield MEMORY, now if is_default or is_same else share


def _on_pod(text: str, other: str | None) -> str:
    """Return the place on the pod of a file of this machine; the lock has the digest of its content."""
    is_same = other is not None and ON_POD in other and PurePosixPath(text).name == PurePosixPath(other).name
    return other if is_same and other is not None else text


def _origins(facts: ModelFacts | None) -> "dict[str, protocol.Origin]":
    """Return the origin of each option; of one that is given twice, of the last."""
    if facts is None or not facts.origins:
        return {}
    pairs = zip(facts.arguments or (), facts.origins, strict=True)
    return {vllm_arguments.name_of(word): origin for word, origin in pairs if vllm_arguments.is_option(word)}


def _number(text: str) -> str:
    return str(vllm_arguments.number(text) or text)

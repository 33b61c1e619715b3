"""What `pi up` has to do: the fleet file compared with what is recorded and with what runs. Pure."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from pi_cli import hints, units
from pi_cli.errors import BadUsage, PiError
from pi_cli.fleet.file import FleetFile, FleetModel, FleetPod
from pi_cli.fleet.values import OFF
from pi_cli.models import start_words
from pi_cli.models.start_words import StartWords
from pi_cli.pods.reports import RunningModel
from pi_cli.ssh import ssh_command
from pi_cli.store import quantities
from pi_cli.store.records import Pod
from pi_cli.vllm import abilities, vllm_options

T = TypeVar("T")

PodAction = Literal["set up", "set up again", "differs", "record", "as written", "failed"]
ModelAction = Literal["start", "starting", "differs", "lease", "as written", "unknown"]
MAX_NAMED = 6  # in a hint
MOVING = ("release", "nightly")  # of which the version is known only after the setup


@dataclass(frozen=True, slots=True)
class PodChange:
    """What is to be done about a pod. `reasons` say what is not as written, `error` why it could not be asked.

    `is_other_machine`: its ssh command leads to another machine than the recorded one. `differs`: it was set up in
    another way, and is set up again only if the user wants that. `record`: only what pi itself keeps is not as written.
    """

    pod: FleetPod
    action: PodAction
    reasons: tuple[str, ...] = ()
    error: PiError | None = None
    is_other_machine: bool = False

    @property
    def is_set_up(self) -> bool:
        """Return whether its setup runs without being asked for."""
        return self.action in ("set up", "set up again")


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What is to be done about a model on one pod; `reasons` say what is not as written.

    `starting`: it is loading already, and is followed. `lease`: only its lease is another one, which is changed while
    it runs. `differs`: it runs with other options, or its server is not well; it is restarted only if the user wants
    that.
    """

    pod: str
    model: FleetModel
    action: ModelAction
    reasons: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.pod}/{self.model.name}"


@dataclass(frozen=True, slots=True)
class Changes:
    """All that `pi up` has to do, in the order of the file.

    `others` are (pod, model) that run on the file's pods and are not in the file, `other_pods` recorded pods that are
    not in it.
    """

    pods: tuple[PodChange, ...] = ()
    models: tuple[ModelChange, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    other_pods: tuple[str, ...] = ()

    @property
    def is_as_written(self) -> bool:
        return {change.action for change in self.pods} | {change.action for change in self.models} <= {"as written"}

    @property
    def differing(self) -> tuple[ModelChange, ...]:
        return tuple(change for change in self.models if change.action == "differs")


@dataclass(frozen=True, slots=True)
class Reality:
    """What is recorded, what runs on the pods that were asked, and the errors of those that did not answer."""

    recorded: Mapping[str, Pod] = field(default_factory=dict)
    running: Mapping[str, Sequence[RunningModel]] = field(default_factory=dict)
    failures: Mapping[str, PiError] = field(default_factory=dict)


def selected(file: FleetFile, names: Sequence[str]) -> tuple[Collection[str], Collection[tuple[str, str]]]:
    """Return the pods, and the (pod, model) that are meant by names of pods and models of a file; all without names.

    A pod is meant with its models, a model with its pods. Raises `BadUsage`.
    """
    if not names:
        return set(file.pods), set(_places(file))
    pods: set[str] = set()
    chosen: set[tuple[str, str]] = set()
    for name in names:
        _require_known(file, name)
        for pod, model in _places(file):
            parts = file.models[model].across or (pod,)
            if name == model or name in parts:
                chosen.add((pod, model))
                pods |= set(parts)
        pods |= {name} & set(file.pods)
    return pods, chosen


def parts(file: FleetFile, places: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return (pod, model) of all pods on which processes of these models run."""
    return {(part, name) for pod, name in places for part in file.models[name].across or (pod,)}


def _require_known(file: FleetFile, name: str) -> None:
    if name in file.pods and name in file.models:
        raise BadUsage(f"`{name}` is a pod and a model of `{file.path}`", hint="give one another name in the file")
    if name not in file.pods and name not in file.models:
        near = hints.did_you_mean(hints.nearest(name, [*file.pods, *file.models]))
        known = ", ".join(f"`{each}`" for each in [*file.pods, *file.models][:MAX_NAMED])
        hint = near or (f"the file has {known}" if known else "the file has no pods")
        raise BadUsage(f"there is no pod or model `{name}` in `{file.path}`", hint=hint)


def needs_asking(pod: FleetPod, recorded: Pod | None) -> bool:
    """Return whether a pod has to be asked what runs on it: it is recorded, and at the same address."""
    return recorded is not None and not _is_elsewhere(pod, recorded)


def find(file: FleetFile, reality: Reality, names: Sequence[str] = ()) -> Changes:
    """Compare a file with reality; with names, only these pods and models."""
    pods, places = selected(file, names)
    pod_changes = {name: _pod_change(pod, reality) for name, pod in file.pods.items() if name in pods}
    models = [
        _model_change(name, file.models[model], pod_changes, reality)
        for name, model in _places(file)
        if (name, model) in places
    ]
    written = parts(file, set(_places(file)))
    others = [
        (name, model.name)
        for name in file.pods
        if name in pods
        for model in reality.running.get(name, ())
        if (name, model.name) not in written
    ]
    other_pods = [] if names else [name for name in reality.recorded if name not in file.pods]
    return Changes(tuple(pod_changes.values()), tuple(models), tuple(others), tuple(other_pods))


def _places(file: FleetFile) -> Iterator[tuple[str, str]]:
    """Yield (pod, model) of all replicas; a model across several pods is found on the first, where its server is."""
    for name, model in file.models.items():
        yield from ((pod, name) for pod in model.pods or model.across[:1])


def _pod_change(pod: FleetPod, reality: Reality) -> PodChange:
    recorded = reality.recorded.get(pod.name)
    if recorded is None:
        return PodChange(pod, "set up")
    if _is_elsewhere(pod, recorded):
        return PodChange(
            pod, "set up again", ("another ssh command",), is_other_machine=is_other_machine(pod, recorded)
        )
    if error := reality.failures.get(pod.name):
        return PodChange(pod, "failed", error=error)
    of_setup, of_record = tuple(_of_setup(pod, recorded)), tuple(_of_record(pod, recorded))
    action: PodAction = "differs" if of_setup else "record" if of_record else "as written"
    return PodChange(pod, action, (*of_setup, *of_record))


def _is_elsewhere(pod: FleetPod, recorded: Pod) -> bool:
    return recorded.ssh not in (pod.ssh, ssh_command.lasting(pod.ssh))


def is_other_machine(pod: FleetPod, recorded: Pod) -> bool:
    """Return whether an ssh command leads to another address than the recorded one, not only with another key."""
    try:
        ours, theirs = ssh_command.parse(pod.ssh), ssh_command.parse(recorded.ssh)
    except BadUsage:  # `pods.json` may have been changed by hand; then the recorded host key decides
        return False
    return (ours.host, ours.port or 22) != (theirs.host, theirs.port or 22)


def _of_setup(pod: FleetPod, recorded: Pod) -> Iterator[str]:
    """Yield what another setup would change; what the file does not say is not compared."""
    storage = recorded.storage
    version = pod.vllm.rpartition("==")[2] if pod.vllm and pod.vllm not in MOVING else None
    installed = recorded.vllm or ""
    if version and version[0].isdigit() and version not in (installed, installed.partition("+")[0]):
        yield f"vllm {version} (now {recorded.vllm or 'unknown'})"
    if pod.models_path and (storage is None or pod.models_path.rstrip("/") != storage.path.rstrip("/")):
        yield f"models-path {pod.models_path} (now {storage.path if storage else 'its home'})"
    if pod.mount and (storage is None or pod.mount != storage.mount):
        yield "mount (now another command)" if storage and storage.mount else "mount (now none)"
    if pod.home and pod.home not in ("~", "$HOME") and pod.home != recorded.home:
        yield f"home {pod.home} (now {recorded.home or 'the home folder'})"


def _of_record(pod: FleetPod, recorded: Pod) -> Iterator[str]:
    """Yield what only `pods.json` has to change for."""
    if pod.price and quantities.price(pod.price) != recorded.price:
        yield f"price {pod.price} (now {recorded.price or 'none'})"
    if pod.connect_timeout and pod.connect_timeout != recorded.connect_timeout:
        yield f"connect-timeout {pod.connect_timeout:g} (now {recorded.connect_timeout or 'none'})"


def _model_change(name: str, model: FleetModel, pods: Mapping[str, PodChange], reality: Reality) -> ModelChange:
    of_model = [pods[pod] for pod in model.across or (name,)]
    if any(pod.action == "failed" for pod in of_model):
        return ModelChange(name, model, "unknown")
    found = {pod.pod.name: _found(pod, model.name, reality) for pod in of_model}
    running = found[name]
    if running is None:
        if left := [pod for pod, part in found.items() if part]:
            return ModelChange(name, model, "differs", (f"a part of it runs on {', '.join(left)}",))
        return ModelChange(name, model, "start")
    missing = [pod for pod, part in found.items() if part is None or part.uid != running.uid]
    if missing and running.peers:
        return ModelChange(name, model, "differs", (f"degraded: {', '.join(missing)} is gone",))
    entry = reality.recorded[name].models.get(model.name)
    words = start_words.read(entry.extra) if entry and entry.uid == running.uid else None
    reasons = tuple(differences(model, running, words))
    if reasons:
        return ModelChange(name, model, "differs", reasons)
    if running.status == "starting":
        return ModelChange(name, model, "starting")
    if running.status != "ready":
        return ModelChange(name, model, "differs", (f"it is {running.status}",))
    reasons = tuple(of_lease(model, running))
    return ModelChange(name, model, "lease" if reasons else "as written", reasons)


def _found(pod: PodChange, name: str, reality: Reality) -> RunningModel | None:
    if pod.is_set_up:
        return None
    return next((each for each in reality.running.get(pod.pod.name, ()) if each.name == name), None)


def differences(model: FleetModel, running: RunningModel, words: StartWords | None) -> Iterator[str]:
    """Yield in what a running model differs from the file.

    Compared are words with words: what pi makes of the same words depends on what else runs. Where this machine does
    not know the words of the start, what the pod reports is compared, as far as the file says it.
    """
    known = words.model if words else running.model
    if model.model.lower() not in (known.lower(), running.model.lower()):
        yield f"model {model.model} (now {known})"
    across = words.across if words else running.peers
    if model.across != across:
        yield f"across {', '.join(model.across) or 'no other pods'} (now {', '.join(across) or 'one pod'})"
    if model.private != running.is_private:
        yield f"private {str(model.private).lower()} (now {str(running.is_private).lower()})"
    if model.gpus is not None and model.gpus != _gpus(running):
        yield f"gpus {model.gpus} (now {_gpus(running)})"
    if words is None:
        if model.memory and running.memory and quantities.share(model.memory) != round(running.memory, 4):
            yield f"memory {model.memory} (now {running.memory:.0%})"
        return
    if model.gpus is None and words.gpus is not None:
        yield f"gpus as pi chooses (now {words.gpus})"
    yield from _quantity("context", model.context, words.context, quantities.tokens)
    yield from _quantity("memory", model.memory, words.memory, quantities.share)
    if _spelled_out(model.vllm) != _spelled_out(words.vllm):
        now = "as pi chose" if words.vllm is None else "others"
        yield f"vllm {'arguments' if model.vllm is not None else 'as pi chooses'} (now {now})"
    if set(model.env) != set(words.env):
        yield f"env {', '.join(sorted(_names(set(model.env) ^ set(words.env))))}"
    if set(model.api_key_env) != set(words.api_key_env):
        yield "api-key-env"


def of_lease(model: FleetModel, running: RunningModel) -> Iterator[str]:
    """Yield in what the lease of a running model differs; a file without a word about it leaves it as it is."""
    if model.lease is None or model.across:
        return
    wanted = None if model.lease == OFF else quantities.lease(model.lease, None)
    now = running.lease
    if wanted != (now.seconds if now else None):
        yield f"lease {model.lease} (now {units.span(now.seconds) if now else OFF})"
    if wanted and model.then != (now.then if now else None):
        yield f"then {model.then or 'nothing'} (now {now.then if now and now.then else 'nothing'})"


def _gpus(running: RunningModel) -> int:
    return len([id for id in running.gpu.split(",") if id.strip()])


def _quantity(key: str, wanted: str | None, given: str | None, read: Callable[[str], T]) -> Iterator[str]:
    if wanted == given:
        return
    if wanted is None or given is None or read(wanted) != _read(read, given):
        yield f"{key} {wanted or 'as pi chooses'} (now {given or 'as pi chose'})"


def _read(read: Callable[[str], T], text: str) -> T | None:
    """Read a quantity of `pods.json`, which may have been changed by hand."""
    try:
        return read(text)
    except BadUsage:
        return None


def _spelled_out(arguments: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if arguments is None else vllm_options.spelled_out(arguments, abilities.shipped().options)


def _names(words: Collection[str]) -> set[str]:
    """Return the names of variables, without their values."""
    return {word.partition("=")[0] for word in words}

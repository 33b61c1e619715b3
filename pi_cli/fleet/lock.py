"""`pi.lock`: what ran when the file was right, so that a fresh pod serves the same. Pure, but for `read` and `write`.

A lock has the facts of `reality` for the pods and models of a fleet file, and what that file asked for. It holds no
secret, and the same facts make the same text.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi_cli import units
from pi_cli.errors import BadUsage, PiError
from pi_cli.fleet import lock_text, reality
from pi_cli.fleet.file import FleetFile, FleetModel, FleetPod
from pi_cli.fleet.reality import ModelFacts, PodFacts, Reality
from pi_cli.hints import fill
from pi_cli.planning.candidates import Locked
from pi_cli.planning.profile import is_folder
from pi_cli.safe import safe_line
from pi_cli.store import files
from pi_cli.vllm import vllm_arguments

if TYPE_CHECKING:
    from agent import protocol

MAX_SIZE = 10_000_000  # bytes
MODE = 0o644
AGAIN = "write it again with `pi up --lock`"

Asked = Mapping[str, Any]
"""What a table of the fleet file asked for, by its keys."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The content of a lock. `asked` has what the file asked for by ("pods" or "models", name)."""

    pods: Mapping[str, PodFacts] = field(default_factory=dict)
    asked: Mapping[tuple[str, str], Asked] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """How a model is started from a lock: with exactly these arguments, which `locked` describes."""

    arguments: tuple[str, ...]
    locked: Locked


def beside(file: Path) -> Path:
    """Return the path of the lock of a fleet file."""
    return file.with_name(f"{file.name}.lock") if file.suffix == ".lock" else file.with_suffix(".lock")


def read(path: Path) -> Lock | None:
    """Return the lock in a file; None if there is no such file. Raises `BadUsage` for one that pi did not write."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadUsage(f"cannot read `{path}`: {error.strerror}", hint="check the file") from error
    try:
        if len(data) > MAX_SIZE:
            raise ValueError("it is larger than 10 MB")
        return Lock(*lock_text.parse(tomllib.loads(data.decode("utf-8"))))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise BadUsage(f"`{path}` is not a lock that pi can read: {reason}", hint=AGAIN) from error


def write(path: Path, lock: Lock) -> None:
    """Write a lock; the file is complete at any moment. It has no secret, so others may read it.

    Raises `StateUnreadable`.
    """
    files.replace(path, text(lock), mode=MODE)


def text(lock: Lock) -> str:
    """Return the text of a lock: the same for the same facts."""
    return lock_text.render(lock.pods, lock.asked)


def of(file: FleetFile, running: Reality) -> Lock:
    """Return the lock of what runs for a file. Raises `PiError` for what does not run, or cannot be locked."""
    pods = {}
    for name in file.pods:
        if name not in running:
            raise PiError(f"`{name}` did not answer, so there is nothing to lock", hint="run `pi up --lock` again")
        models = {model.name: _locked_model(model, name, running) for model in _on(file, name)}
        pods[name] = replace(running[name], models=models, made_from=_to_install(running[name]))
    asked = {("pods", pod.name): _asked_of_pod(pod) for pod in file.pods.values()}
    asked |= {("models", model.name): _asked_of_model(model) for model in file.models.values() if model.pods}
    return Lock(pods, asked)


def start_for(lock: Lock, pod: str, model: str, now: PodFacts) -> Start | None:
    """Return how the lock starts a model on a pod as it is now; None if the pod is too different, or nothing is locked.

    For a pod that is not in the lock, the entry of one of the same kind counts: it is one more replica.
    """
    candidates = [lock.pods[pod]] if pod in lock.pods else list(lock.pods.values())
    for locked in candidates:
        facts = locked.models.get(model)
        if facts is not None and facts.arguments is not None and _runs_the_same(locked, facts, now):
            return Start(facts.arguments, Locked(facts.origins, tuple(sorted(facts.variables.items())), facts.vllm))
    return None


def vllm_for(lock: Lock, pod: str) -> str | None:
    """Return what setup installs on a locked pod, as `--vllm` takes it; None if the lock does not have the pod.

    Setup itself chooses the build for the CUDA of the driver, unless it was told.

    >>> facts = PodFacts(vllm="0.33.0+cu129", made_from="vllm[runai]>=0.31")
    >>> vllm_for(Lock({"dc1": facts}), "dc1")
    'vllm[runai]==0.33.0'
    """
    return _to_install(lock.pods[pod]) if pod in lock.pods else None


def _to_install(facts: PodFacts) -> str | None:
    if facts.vllm is None:
        return None
    made_from = facts.made_from or ""
    if "/" in made_from or "@" in made_from or made_from == "nightly":  # no index has that version
        return made_from
    extras = made_from.partition("[")[2].partition("]")[0]
    version = facts.vllm if "+" in made_from else facts.vllm.partition("+")[0]
    return f"vllm[{extras}]=={version}" if extras else version


def stale(lock: Lock, file: FleetFile) -> list[str]:
    """Return how the file asks for something else than when the lock was written, a sentence each."""
    found: list[str] = []
    for name, pod in file.pods.items():
        found += _changed(f"`{name}`", lock.asked.get(("pods", name)), _asked_of_pod(pod))
        locked = lock.pods.get(name)
        lacking = [model.name for model in _on(file, name) if locked and model.name not in locked.models]
        found += [f"`{model}` on `{name}` is not in the lock" for model in lacking]
    for name, model in file.models.items():
        if model.pods:
            found += _changed(f"`{name}`", lock.asked.get(("models", name)), _asked_of_model(model))
    return list(dict.fromkeys(found))


def fitting(lock: Lock, file: FleetFile) -> Lock:
    """Return what is left of a lock for a file: without what the file asks for in another way by now."""
    pods = {name for name, pod in file.pods.items() if lock.asked.get(("pods", name)) == _asked_of_pod(pod)}
    models = {name for name, model in file.models.items() if lock.asked.get(("models", name)) == _asked_of_model(model)}
    return Lock(
        {
            name: replace(facts, models={each: model for each, model in facts.models.items() if each in models})
            for name, facts in lock.pods.items()
            if name in pods
        },
        lock.asked,
    )


def drift(lock: Lock, running: Reality) -> list[str]:
    """Return how pods and running models differ from the lock, a sentence each; what does not run does not count."""
    return [*drift_of_machines(lock, running), *drift_of_models(lock, running)]


def drift_of_machines(lock: Lock, running: Reality, *, with_vllm: bool = True) -> list[str]:
    """Return how the machines differ: the GPUs, the CUDA of the driver, and vLLM. Another driver alone is fine."""
    return [
        f"`{name}`: the lock has {what} {_shown(then)}, the pod has {_shown(now)}"
        for name, locked in lock.pods.items()
        if name in running
        for what, then, now in [
            *_of_hardware(locked, running[name]),
            *(_of_vllm(locked, running[name]) if with_vllm else ()),
        ]
    ]


def drift_of_models(lock: Lock, running: Reality) -> list[str]:
    """Return how the models that run differ."""
    return [
        f"`{name}` on `{pod}`: the lock has {what} {_shown(then)}, what runs has {_shown(now)}"
        for pod, locked in lock.pods.items()
        if pod in running
        for name, facts in locked.models.items()
        if name in running[pod].models
        for what, then, now in _of_model(facts, running[pod].models[name])
    ]


def reasons(lock: Lock, pod: str, model: str, now: ModelFacts) -> list[str]:
    """Return how a model that runs differs from the lock, in the words in which `pi up` says it of the file."""
    locked = lock.pods[pod].models.get(model) if pod in lock.pods else None
    differences = _of_model(locked, now) if locked else ()
    return [f"{what.strip('`')} {_shown(then)} (now {_shown(since)})" for what, then, since in differences]


def pinned(facts: ModelFacts) -> ModelFacts:
    """Return a model with the commit in its arguments, so that another start gets the same files."""
    arguments = facts.arguments or ()
    named = vllm_arguments.value(arguments, vllm_arguments.REVISION)
    if facts.commit is None or named == facts.commit or is_folder(facts.model):
        return facts
    kept: list[str] = []
    origins, index = list(facts.origins), 0
    for group in vllm_arguments.groups(arguments):
        if vllm_arguments.name_of(group[0]) in vllm_arguments.REVISION:
            del origins[index : index + len(group)]
        else:
            kept += group
            index += len(group)
    words = (vllm_arguments.REVISION[0], facts.commit)
    of_lock: tuple[protocol.Origin, ...] = ("lock", "lock") if facts.origins or not arguments else ()
    return replace(facts, arguments=(*kept, *words), origins=(*origins, *of_lock))


def _on(file: FleetFile, pod: str) -> list[FleetModel]:
    """Return the models of which a replica runs on a pod. One that runs across pods is not locked."""
    return [model for model in file.models.values() if pod in model.pods]


def _locked_model(model: FleetModel, pod: str, running: Reality) -> ModelFacts:
    facts = running[pod].models.get(model.name)
    if facts is None:
        raise PiError(
            f"`{model.name}` does not run on `{pod}`, so it cannot be locked", hint="start what is missing with `pi up`"
        )
    if facts.arguments is None:
        raise PiError(
            f"`{model.name}` on `{pod}` was not started by pi, so it cannot be locked",
            hint=fill("stop it with `pi stop {name} --pod {pod}`, and let `pi up` start it", name=model.name, pod=pod),
        )
    if facts.has_secret:
        raise PiError(
            f"`{model.name}` on `{pod}` has a secret among its arguments, so it cannot be locked",
            hint="start it without: tokens come from HF_TOKEN, keys from PI_API_KEY",
        )
    if reason := lock_text.refusal(facts.variables):
        raise PiError(
            f"`{model.name}` on `{pod}` reports variables that a lock must not have, so it cannot be locked: {reason}",
            hint=fill("start it again with `pi stop {name} --pod {pod}` and `pi up`", name=model.name, pod=pod),
        )
    if not _is_text(facts.arguments):
        raise PiError(
            f"`{model.name}` on `{pod}` has arguments that no file can have, so it cannot be locked",
            hint="lone surrogates are not text: start it without",
        )
    return pinned(_of_the_file(facts, model))


def _is_text(words: Iterable[str]) -> bool:
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        return False
    return True


def _of_the_file(facts: ModelFacts, model: FleetModel) -> ModelFacts:
    """Name the file as the origin of what was asked for, if the file asks for it."""
    named = {"gpus": vllm_arguments.TENSOR_PARALLEL, "context": vllm_arguments.CONTEXT_LENGTH}
    named |= {"memory": vllm_arguments.MEMORY_SHARE}
    asked = {option for key, options in named.items() if getattr(model, key) is not None for option in options}
    origins: list[protocol.Origin] = []
    name = ""
    for word, origin in zip(facts.arguments or (), facts.origins, strict=False):
        name = vllm_arguments.name_of(word) if vllm_arguments.is_option(word) else name
        is_asked = origin == "command" and (model.vllm is not None or name in asked)
        origins.append("file" if is_asked else origin)
    return replace(facts, origins=tuple(origins))


def _asked_of_model(model: FleetModel) -> Asked:
    asked = {
        "model": model.model,
        "gpus": model.gpus,
        "context": model.context,
        "memory": model.memory,
        "vllm": None if model.vllm is None else list(model.vllm),
        "env": list(model.env) or None,
        "private": model.private or None,
    }
    return {key: value for key, value in asked.items() if value is not None}


def _asked_of_pod(pod: FleetPod) -> Asked:
    asked = {"vllm": pod.vllm, "cpu": pod.cpu or None}
    return {key: value for key, value in asked.items() if value is not None}


def _changed(who: str, then: Asked | None, now: Asked) -> Iterator[str]:
    if then is None:
        yield f"{who} is not in the lock"
        return
    for key in [*then, *(key for key in now if key not in then)]:
        if then.get(key) != now.get(key):
            yield f"the file has another `{key}` for {who} than when the lock was written"


Difference = tuple[str, object, object]  # what differs, in the lock and now


def _of_hardware(locked: PodFacts, now: PodFacts) -> Iterator[Difference]:
    if sorted(locked.gpus) != sorted(now.gpus):
        yield "the GPUs", locked.gpus, now.gpus
    if locked.cuda != now.cuda and locked.cuda and now.cuda:
        yield "a driver for CUDA", locked.cuda, now.cuda


def _of_vllm(locked: PodFacts, now: PodFacts) -> Iterator[Difference]:
    if locked.vllm != now.vllm:
        yield "vLLM", locked.vllm, now.vllm
        return
    known = [("the wheel", "wheel"), ("a wheel with the files", "files"), ("PyTorch", "torch")]
    for what, then, since in [(what, getattr(locked, key), getattr(now, key)) for what, key in known]:
        if then and since and then != since:
            yield what, then, since


def _of_model(locked: ModelFacts, now: ModelFacts) -> Iterator[Difference]:
    if locked.model != now.model:
        yield "the model", locked.model, now.model
        return
    if locked.commit and now.commit and locked.commit != now.commit:
        yield "the commit", locked.commit, now.commit
    if locked.vllm != now.vllm:
        yield "vLLM", locked.vllm, now.vllm
    yield from _of_arguments(without_revision(locked), without_revision(now))
    if locked.variables != now.variables:
        yield "the variables", dict(locked.variables), dict(now.variables)
    if locked.private != now.private:
        yield "`private`", locked.private, now.private


def _of_arguments(then: tuple[str, ...] | None, now: tuple[str, ...] | None) -> Iterator[Difference]:
    if then is None or now is None or then == now:
        return
    before, since = reality.options(then), reality.options(now)
    different = [name for name in dict.fromkeys((*before, *since)) if before.get(name) != since.get(name)]
    for name in different:
        yield f"`{name}`", before.get(name), since.get(name)
    if not different:
        yield "the arguments", " ".join(then), " ".join(now)


def without_revision(facts: ModelFacts) -> tuple[str, ...] | None:
    """Return the arguments without the one that pins a commit: the commit itself is compared."""
    if facts.arguments is None or facts.commit is None:
        return facts.arguments
    return vllm_arguments.without(facts.arguments, vllm_arguments.REVISION)


def _runs_the_same(locked: PodFacts, model: ModelFacts, now: PodFacts) -> bool:
    """Return whether a pod has the GPUs and the vLLM that a model was locked with."""
    return set(now.gpus) == set(locked.gpus) and len(now.gpus) >= model.gpus and now.vllm == locked.vllm


def _shown(value: object) -> str:
    """Word a fact for a sentence."""
    match value:
        case None | ():
            return "none"
        case tuple():
            return units.counted(value)
        case dict():
            return ", ".join(f"{name}={each}" for name, each in sorted(value.items())) or "none"
        case bool():
            return "on" if value else "off"
    return safe_line(str(value))

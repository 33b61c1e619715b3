"""What a fleet file has to say, from what is recorded and what runs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pi_cli.fleet.changes import Reality
from pi_cli.fleet.description import MODEL, POD, Key
from pi_cli.fleet.file import FleetModel, FleetPod
from pi_cli.fleet.values import Refused
from pi_cli.models import start_words
from pi_cli.pods.reports import Lease
from pi_cli.store.records import Model, Pod, Price


@dataclass(slots=True)
class Exported:
    """The pods and models of a fleet file, and what could not be written."""

    pods: dict[str, FleetPod] = field(default_factory=dict)
    models: dict[str, FleetModel] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find(reality: Reality) -> Exported:
    """Return what the file says of recorded pods; of those that did not answer, the recorded models."""
    exported = Exported()
    for name, pod in reality.recorded.items():
        entry = _pod(name, pod)
        if refusal := _refusal(entry, POD):
            exported.notes.append(f"`{name}` was left out: {refusal}")
            continue
        exported.pods[name] = entry
        leases = {model.name: model.lease for model in reality.running.get(name, ()) if model.lease}
        for model_name, model in _models(name, pod, reality).items():
            if model.role != "node":  # it is written with its head
                _add(exported, name, _with_lease(_entry(exported, name, model_name, model), leases.get(model_name)))
    return exported


def _models(name: str, pod: Pod, reality: Reality) -> Mapping[str, Model]:
    """Return the models of a pod as they would be recorded now."""
    if name not in reality.running:
        return pod.models
    found: dict[str, Model] = {}
    for running in reality.running[name]:
        if running.is_foreign:
            continue
        entry, before = running.entry, pod.models.get(running.name)
        if before is not None and before.uid == running.uid:
            entry.extra = before.extra | entry.extra
        found[running.name] = entry
    return found


def _entry(exported: Exported, pod: str, name: str, model: Model) -> FleetModel:
    words = start_words.read(model.extra)
    if words is None:
        variable = model.extra.get("api_key_env")
        keys = (variable,) if isinstance(variable, str) else ()
        exported.notes.append(f"`{name}` on `{pod}` was not started from here: its options are unknown")
        return FleetModel(name, model.model, across=model.peers, private=model.is_private, api_key_env=keys)
    return FleetModel(
        name,
        words.model,
        gpus=words.gpus,
        context=words.context,
        memory=words.memory,
        vllm=words.vllm,
        env=words.env,
        private=words.private,
        api_key_env=words.api_key_env,
        across=words.across,
    )


def _with_lease(entry: FleetModel, lease: Lease | None) -> FleetModel:
    is_written = lease is not None and not entry.across
    return replace(entry, lease=_duration(lease.seconds), then=lease.then) if lease and is_written else entry


def _duration(seconds: float) -> str:
    """Return a duration as the file has it.

    >>> _duration(2700), _duration(7200), _duration(90)
    ('45m', '2h', '90s')
    """
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _add(exported: Exported, pod: str, entry: FleetModel) -> None:
    name = entry.name
    if refusal := _refusal(entry, MODEL):
        exported.notes.append(f"`{name}` on `{pod}` was left out: {refusal}")
        return
    if entry.across:
        exported.models.setdefault(name, entry)
        return
    before = exported.models.get(name)
    if before is not None and replace(before, pods=()) != entry:
        exported.notes.append(
            f"`{name}` on `{pod}` was left out: it runs with other options than on `{before.pods[0]}`, and a name is "
            "one model in the file"
        )
        return
    exported.models[name] = replace(entry, pods=(*(before.pods if before else ()), pod))


def _pod(name: str, pod: Pod) -> FleetPod:
    storage = pod.storage
    return FleetPod(
        name,
        pod.ssh,
        mount=storage.mount if storage else None,
        models_path=storage.path if storage else None,
        home=pod.home,
        vllm=_version(pod.vllm),
        cpu=pod.is_cpu,
        price=_price(pod.price) if pod.price else None,
        connect_timeout=pod.connect_timeout,
    )


def _version(vllm: str | None) -> str | None:
    """Return what installs a version again; one that was built between releases is on no index for long.

    >>> _version("0.32.0+cpu"), _version("0.32.1.dev17+gabc"), _version(None)
    ('0.32.0', 'nightly', None)
    """
    version = (vllm or "").partition("+")[0]
    return ("nightly" if "dev" in version else version) or None


def _price(price: Price) -> str:
    return str(price.amount) if price.currency == "$" else f"{price.amount} {price.currency}"


def _refusal(entry: FleetPod | FleetModel, keys: Mapping[str, Key]) -> str:
    """Return why the file must not say this, such as a secret in an ssh command; no text if it may."""
    for name, key in keys.items():
        value = getattr(entry, name.replace("-", "_"))
        if value is None or value == ():
            continue
        try:
            key.kind.read(list(value) if isinstance(value, tuple) else value)
        except Refused as refused:
            return f"`{name}` {refused.reason}"
    return ""

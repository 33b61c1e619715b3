"""A model as lists show it, and as pods are told of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pi_cli.ssh import ssh_command
from pi_cli.store.records import Model, Pod


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as it is on its pod now.

    `status` is `starting` (`phase` says how far, `progress` how many bytes of how many), `ready`, `unhealthy` (it
    lives, and its health check fails), `orphaned` (its engine lives without its server), `dead` (`cause` says why, and
    `log` where that stands on the pod), `unreachable` (its pod is) or `unchecked`. `age` is in seconds, `answers_here`
    tells whether its URL works from here, `requests` are how many run and wait, `memory` is (used, total) MiB of its
    GPUs, whoever uses them.
    """

    pod: str
    name: str
    model: Model
    status: str
    url: str | None
    age: float | None = None
    answers_here: bool | None = None
    phase: str | None = None
    progress: tuple[int, int] | None = None
    requests: tuple[int, int] | None = None
    memory: tuple[int, int] | None = None
    cause: str | None = None
    log: str | None = None


def remembered(name: str, pod: Pod, status: str) -> list[Listed]:
    """Return the models of a pod that was not asked, or did not answer."""
    host = host_of(pod)
    return [Listed(name, each, model, status, endpoint(host, model)) for each, model in pod.models.items()]


def host_of(pod: Pod) -> str:
    """Return where a pod's ports are, as far as we know without asking it."""
    return pod.host or ssh_command.parse(pod.ssh).host


def endpoint(host: str, model: Model) -> str | None:
    """Return the URL of a model as seen from outside, if its provider routes the port; a private one has none."""
    if model.is_private:
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{model.port}/v1"


def kept_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model's entry keeps of its record on the pod, besides what every entry has.

    Not where its key is: which of our secrets goes to a pod, the pod must not choose.
    """
    return {name: record[name] for name in ("memory", "private") if record.get(name)}


def as_json(models: Mapping[str, Model]) -> list[dict[str, Any]]:
    """Return models as the agent knows them."""
    return [
        {"name": name, "uid": model.uid, "model": model.model, "pid": model.pid, "port": model.port, "gpu": model.gpu}
        for name, model in models.items()
    ]

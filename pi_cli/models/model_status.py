"""A model's status, for lists and `--json`; and models as the agent knows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.errors import BadUsage
from pi_cli.pods.reports import RunningModel
from pi_cli.ssh import ssh_command
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

LAUNCHED: "protocol.Launching" = "starting vLLM"


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as it is on its pod now.

    `status` is `starting` (`phase` says how far, `progress` how many bytes of how many), `ready`, `unhealthy` (it
    lives, and its health check fails), `orphaned` (its engine lives without its server), `foreign` (it runs under a
    name that pi does not give, and is not in `pods.json`), `dead` (`cause` says why, and `log` where that stands on the
    pod), `unreachable` (its pod is) or `unchecked`. `age` is in seconds, `answers_here` says whether its URL works from
    here, `requests` are how many run and wait, `memory` is (used, total) MiB of its GPUs, whoever uses them.
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


def host_of(pod: Pod) -> str | None:
    """Return where a pod's ports are, as far as we know without asking it; None if its ssh command cannot be read."""
    try:
        return pod.host or ssh_command.parse(pod.ssh).host
    except BadUsage:
        return None


def endpoint(host: str | None, model: Model) -> str | None:
    """Return the URL of a model as seen from outside, if its provider routes the port; a private one has none."""
    if model.is_private or host is None:
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{model.port}/v1"


def phase(model: RunningModel) -> str:
    """Say how far a model is that is starting."""
    if model.pid:
        return model.phase or LAUNCHED
    return "downloading" if model.progress else "beginning"


def known(models: Mapping[str, Model]) -> "list[protocol.KnownModel]":
    """Return models of `pods.json` as the agent knows them."""
    return [
        {"name": name, "uid": model.uid, "pid": model.pid, "port": model.port, "gpu": model.gpu}
        for name, model in models.items()
    ]


def known_by_uid(name: str, uid: str | None) -> "protocol.KnownModel":
    """Return a model that only its uid, or its name, is known of."""
    return {"name": name, "uid": uid, "pid": 0, "port": 0, "gpu": ""}

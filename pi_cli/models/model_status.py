"""A model's status for lists and `--json`, and models in the format of the agent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pi_cli.errors import BadUsage, PiError, PodUnreachable
from pi_cli.pods.reports import Lease, LeaseEnd, RunningModel
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

LAUNCHED: "protocol.Launching" = "starting vLLM"
DOWNLOADING_AND_COMPILING = "downloading, compiling"
SHARD_COUNT = re.compile(r" \d+/\d+$")


@dataclass(frozen=True, slots=True)
class Listed:
    """A model with its current state on its pod.

    `status` is one of `starting` (with its `phase`; `progress` is (downloaded, total) bytes), `ready`, `unhealthy` (the
    health check fails), `degraded` (a part of a model over several pods is missing), `orphaned` (the engine runs
    without its server, without its record on the pod, or without its head), `foreign`
    (its name breaks pi's rule, so it is not in `pods.json`), `dead` (`cause` is the reason, `line` the line of its log
    that tells it, `hint` what to do, `log` the path of its log on the pod), `ended` (by its lease: `lease_end` is how),
    `unreachable` (the pod is), `unknown` (the pod answered with an error) and `unchecked`. `age` is in seconds. `url`
    is its public URL if the model has proved there that it is this one; `answers_here`: whether it has, None if that is
    not known; `asked_ago`: for how many seconds that has been known, 0 if it was found out just now. `requests` is
    (running, waiting), `idle` is for how many seconds no client has used it, `memory` is (used, total) MiB of its GPUs,
    including other processes. `parts` are those of a model over several pods that were found, the head first, and
    `pods` all of these pods.
    """

    pod: str
    name: str
    model: Model
    status: str
    url: str | None = None
    age: float | None = None
    answers_here: bool | None = None
    asked_ago: float | None = None
    phase: str | None = None
    progress: tuple[int, int] | None = None
    requests: tuple[int, int] | None = None
    idle: float | None = None
    memory: tuple[int, int] | None = None
    cause: str | None = None
    line: str | None = None
    hint: str | None = None
    log: str | None = None
    lease: Lease | None = None
    lease_end: LeaseEnd | None = None
    parts: "tuple[Listed, ...]" = ()
    pods: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Name the pods that it runs on: `dc1`, or `dc1+dc2` for one model over several."""
        return "+".join(self.pods) or self.pod

    @property
    def gpu(self) -> str:
        """Return the ids of its GPUs, those of several pods separated by `+`."""
        return "+".join(part.model.gpu for part in self.parts) or self.model.gpu


def status_after(error: PiError) -> Literal["unreachable", "unknown"]:
    """Return the status of a pod, or of its models, after an error: a pod that has answered is not unreachable."""
    return "unreachable" if isinstance(error, PodUnreachable | BadUsage) else "unknown"


def remembered(name: str, pod: Pod, status: str) -> list[Listed]:
    """Return the recorded models of a pod that was not asked or did not answer."""
    return [Listed(name, model_name, model, status) for model_name, model in pod.models.items()]


def endpoint(host: str, model: Model) -> str | None:
    """Return the public URL of a model, None for a private one.

    It works if the provider routes the port. Only an answer of the model proves that it leads to this model.
    """
    return None if model.is_private else url(host, model.port)


def url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def phase(model: RunningModel) -> str:
    """Return the phase of a model that is starting."""
    if model.pid:
        return model.phase or LAUNCHED
    if not model.progress:
        return "beginning"
    return DOWNLOADING_AND_COMPILING if model.phase else "downloading"


def without_count(phase: str) -> str:
    """Return the name of a phase without its count of shards.

    >>> without_count("loading weights 3/14")
    'loading weights'
    """
    return SHARD_COUNT.sub("", phase)


def known(models: Mapping[str, Model]) -> "list[protocol.KnownModel]":
    """Return models of `pods.json` in the format of the agent."""
    return [
        {"name": name, "uid": model.uid, "pid": model.pid, "port": model.port, "gpu": model.gpu}
        for name, model in models.items()
    ]


def known_by_uid(name: str, uid: str | None) -> "protocol.KnownModel":
    """Return a model of which only the name, and maybe the uid, is known."""
    return {"name": name, "uid": uid, "pid": 0, "port": 0, "gpu": ""}

"""The answers of a pod as checked types: running and dead models, the machine, the events of a start.

Only `pods.replies` creates them. Their text is safe for a terminal, and their numbers are in range.
"""

from typing import TYPE_CHECKING, Any, Literal

from pi_cli.diagnosis.death_evidence import DeathEvidence
from pi_cli.lazy_dataclasses import dataclass, field
from pi_cli.store.benchmarks import Level
from pi_cli.store.records import Model, is_name

if TYPE_CHECKING:
    from agent import protocol


@dataclass(frozen=True, slots=True)
class Metrics:
    """The work of a model by vLLM's own counters, as in the protocol; None for what it does not report."""

    at: float
    running: float | None
    waiting: float | None
    prompt_tokens: float | None
    generation_tokens: float | None
    kv_cache: float | None
    first_token_seconds: float | None
    first_tokens: float | None


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """A GPU: (used, total) MiB, percent of the time in use, watts, degrees Celsius; None for what is not known.

    `has_slices`: it is divided into MIG slices.
    """

    id: int
    name: str
    memory: tuple[int, int] | None = None
    utilization: float | None = None
    power: float | None = None
    power_limit: float | None = None
    temperature: float | None = None
    has_slices: bool = False


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of a model, as in the protocol: `left` is None while its clock stands still."""

    uid: str
    name: str
    seconds: float
    left: float | None
    phase: "protocol.LeasePhase"
    phase_seconds: float
    then: "protocol.Then | None"
    watcher: "protocol.Watcher"


@dataclass(frozen=True, slots=True)
class LeaseEnd:
    """How a lease has ended a model, as in the protocol; `off` is for how many seconds the pod was stopped after it."""

    at: float
    uid: str
    name: str
    why: "protocol.LeaseWhy"
    idle: float
    outcome: str
    freed: int | None
    pod: "protocol.LeasePod"
    reason: str
    others: tuple[str, ...] = ()
    off: float = 0.0


@dataclass(frozen=True, slots=True)
class Leases:
    """The leases of a pod and how the latest ended; `provider` is who would stop this pod, `trouble` why it cannot."""

    leases: list[Lease]
    ends: list[LeaseEnd]
    provider: "protocol.StoppingProvider | None" = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model that runs on a pod.

    `pid` is 0 until vLLM is launched. `age` is in seconds, `progress` is (downloaded, total) bytes, `requests` is
    (running, waiting), `idle` is for how many seconds no client has used it, `metrics` come with a live survey only,
    and `memory_used` is (used, total) MiB of its GPUs, including other processes. `listens`: one of its processes
    listens on its port. `proof_keys` are what it proves itself with (see `models.identity`). `kind` is `gateway` for
    a balancer in front of other models. `role` is that of the pod
    in a model over several pods, `peers` are all of these, the head first, as the client that started it calls them.
    """

    name: str
    uid: str | None
    model: str
    port: int
    gpu: str
    pid: int
    memory: float | None
    is_private: bool
    status: "protocol.Status"
    age: float | None = None
    phase: str | None = None
    progress: tuple[int, int | None] | None = None
    requests: tuple[int, int] | None = None
    metrics: Metrics | None = None
    idle: float | None = None
    memory_used: tuple[int, int] | None = None
    listens: bool = False
    proof_keys: frozenset[bytes] = field(default=frozenset(), repr=False)
    lease: Lease | None = None
    kind: "protocol.RecordKind" = "model"
    role: "protocol.Role | None" = None
    peers: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Return whether its name breaks pi's rule for names: pi shows such a model and does nothing else with it."""
        return not is_name(self.name)

    @property
    def entry(self) -> Model:
        """Return its entry for `pods.json`.

        Never `api_key_env`: a pod must not choose which of the user's secrets is sent to it.
        """
        kind = self.kind if self.kind != "model" else None
        optional: dict[str, Any] = {"memory": self.memory, "private": self.is_private, "kind": kind}
        optional |= {"role": self.role, "peers": [*self.peers]}
        extra = {key: value for key, value in optional.items() if value}
        return Model(self.model, self.port, self.gpu, self.pid, self.uid, extra)


@dataclass(frozen=True, slots=True)
class DeadModel:
    """A model that no longer runs; `log` is the path of its log, `log_end` the last part of it.

    `was_recorded`: its record was still on the pod; otherwise another client stopped it.
    """

    name: str
    log: str
    was_recorded: bool
    was_rebooted: bool
    log_end: str
    lease_end: LeaseEnd | None = None


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A file in `~/.pi/models` that the agent skipped."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of all models of a pod; names are unique in each list.

    `elsewhere` are models of pi's list that another machine with the same home has started, and the ids of these
    machines. `refused_lock` is the path of a lock that the pod's file system refused. `driver_hangs`: nvidia-smi did
    not answer, so that the memory of the GPUs is unknown. `gpus` is empty unless the survey was a live one.
    """

    models: list[RunningModel]
    dead: list[DeadModel]
    unreadable: list[UnreadableRecord]
    elsewhere: dict[str, str]
    refused_lock: str | None
    driver_hangs: bool = False
    gpus: list[GpuLoad] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder and its disk; sizes are in bytes, None if they cannot be known, e.g. on pooled network storage.

    `is_mount`: it is on another disk than `/`. `trouble`: why nothing is known (it is gone, or does not answer).
    """

    path: str
    total: int | None
    free: int | None
    is_mount: bool
    kind: str
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class VllmFile:
    """What a vLLM of the machine said about itself, by its SHA-256; `text` is the content, if the agent sent it."""

    version: str | None
    is_default: bool
    digest: str
    text: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CudaAnswer:
    """What the driver of a machine answered, as in the protocol; `problem` is empty if CUDA works."""

    problem: "protocol.CudaProblem"
    code: int
    reason: str
    gpus: list[tuple[int, int]]
    count: int
    expected: int
    version: int
    library: str
    driver: str
    entry: str
    lacking: list[str]
    denied: list[str]
    simulated: bool


@dataclass(frozen=True, slots=True)
class Inspection:
    """The state of a machine; `gpus` and `slices` are output of `nvidia-smi`, `trouble` is why it is incomplete.

    `driver` is what nvidia-smi did.
    """

    gpus: str
    slices: str
    trouble: str | None
    driver: Literal["answers", "fails", "hangs", "missing"]
    home: Disk
    place: Disk | None
    storage: Disk | None
    vllm: str | None
    versions: list[str]
    abilities: list[VllmFile]
    provider: str | None
    boot: str
    models: list[RunningModel]
    cuda: CudaAnswer | None


@dataclass(frozen=True, slots=True)
class Holders:
    """The output of `nvidia-smi` for each query about GPU memory, and the PIDs of the models' processes."""

    outputs: list[str]
    ours: list[int]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a model that runs was started, as in the protocol.

    `arguments` are exactly those that vLLM got, so they are made safe where they are shown. `origins` has one for each
    of them, or is empty if that is not known.
    """

    uid: str
    name: str
    arguments: tuple[str, ...]
    origins: "tuple[protocol.Origin, ...]"
    variables: dict[str, str]
    given: tuple[str, ...]
    commit: str | None
    vllm: str | None


@dataclass(frozen=True, slots=True)
class Build:
    """A vLLM on a machine: what setup made it from, its wheel, the SHA-256 of its files, its version of torch."""

    version: str
    made_from: str | None
    wheel: str | None
    files: str | None
    torch: str | None


@dataclass(frozen=True, slots=True)
class Launches:
    """The launches of the models that run, and the vLLMs of the machine, the default one first."""

    launches: list[Launch]
    builds: list[Build]


@dataclass(frozen=True, slots=True)
class BenchReply:
    """One level of a benchmark; `level` only if it is done. `context` is the model's, `output` what vLLM said last."""

    end: "protocol.BenchEnd"
    context: int | None
    vllm: str | None
    arguments: list[str]
    level: Level | None
    output: str


@dataclass(frozen=True, slots=True)
class StoredFiles:
    """The folder of uploaded files on the pod, and whether all of them are in it."""

    folder: str
    is_stored: bool


@dataclass(frozen=True, slots=True)
class PurgedPart:
    """A file or folder on a pod that is deleted, and the bytes and the number of the files in it."""

    kind: "protocol.PurgedKind"
    path: str
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class KeptPlace:
    """A file or folder on a pod that stays, and why."""

    path: str
    reason: "protocol.KeptReason"


@dataclass(frozen=True, slots=True)
class Purge:
    """What pi has put on a pod, and what stays. `shared_models`: other pods may use the volume with the models."""

    parts: list[PurgedPart]
    kept: list[KeptPlace]
    shared_models: bool


@dataclass(frozen=True, slots=True)
class CleanedFolder:
    """A folder of compiled code that was deleted on a pod, and the bytes and the number of the files in it."""

    path: str
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class StopResult:
    """The outcomes of a stop, in the order of the request; `freed` is in MiB of GPU memory, None if unknown.

    `others`: whether another launch of the same name was stopped than the one in the request. `uids` are those of the
    launches, `peers` the pods of each that ran over several.
    """

    outcomes: "list[protocol.Outcome]"
    others: list[bool]
    freed: int | None
    uids: list[str | None] = field(default_factory=list)
    peers: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address of a pod; `variable` is the variable of its first process that names it, if any."""

    address: str
    interface: str
    variable: str


@dataclass(frozen=True, slots=True)
class Link:
    """A tested connection to an address of another pod, in bits per second; None if it failed for `reason`."""

    address: str
    rate: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of a pod, a free port for the nodes to meet at, and the connections that were tested."""

    addresses: list[Address]
    port: int
    links: list[Link]
    is_simulated: bool


@dataclass(frozen=True, slots=True)
class GatewayEnd:
    """Whether the balancer of a gateway runs on a pod, at which port, and what became of each engine.

    `nothing`: it was not started, since no engine can be used. `workers` are URLs by id, `refused` are reasons by id.
    """

    state: "protocol.GatewayState"
    port: int | None
    workers: dict[str, str]
    refused: dict[str, str]


@dataclass(frozen=True, slots=True)
class StartEnd:
    """The end of a start that was followed: `exited` with `code` or by `signal`, or `healthy` after `took` seconds."""

    state: Literal["launched", "healthy", "exited"]
    model: RunningModel
    took: float | None
    code: int | None
    signal: int | None
    death: DeathEvidence | None = None


# The events of a start


@dataclass(frozen=True, slots=True)
class Placed:
    """A port and GPUs are reserved; `log` is the path of vLLM's log."""

    port: int
    gpu: str
    log: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """The model is on the pod, whose agent waits for the other pods; `commit` is empty if it is not from the Hub."""

    commit: str


@dataclass(frozen=True, slots=True)
class Listening:
    """A pod accepts connections for a test, on these ports."""

    ports: list[int]


@dataclass(frozen=True, slots=True)
class Launched:
    """vLLM was launched."""

    pid: int


@dataclass(frozen=True, slots=True)
class Downloaded:
    """Bytes downloaded so far; if this start waits for another one, `by` names that one (see `wording.downloader`)."""

    done: int
    total: int | None
    by: str


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """vLLM began to compile during the download, or has ended that (see `protocol.WarmUp`)."""

    state: "protocol.WarmUpState"


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """vLLM entered a phase `at` seconds after its launch; None if it did so before pi began to follow."""

    text: str
    at: float | None


@dataclass(frozen=True, slots=True)
class Logged:
    """A part of vLLM's log."""

    text: str


@dataclass(frozen=True, slots=True)
class Remark:
    """A note for the user."""

    text: str


StartEvent = Placed | Fetched | Listening | Launched | Downloaded | PhaseEntered | Logged | WarmedUp | Remark


# Logs


@dataclass(frozen=True, slots=True)
class LogChange:
    """A change of a log; `uid` is that of the model that writes it, `position` is how far pi has read."""

    event: Literal["begins", "grown", "rotated", "truncated", "lost", "restarted", "ended", "too-slow"]
    uid: str | None
    position: "protocol.LogPosition"
    is_new: bool = False
    is_alive: bool = False
    exists: bool = False

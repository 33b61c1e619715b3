"""What a pod says, as checked types: models that run or died, the machine, and the events of a start.

Only `pods.agent` makes them. Text in them is safe for a terminal, numbers are in range.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pi_cli.store.records import Model, is_name

if TYPE_CHECKING:
    from agent import protocol


@dataclass(frozen=True, slots=True)
class RunningModel:
    """A model that runs on a pod.

    `pid` is 0 before vLLM is launched. `age` is in seconds, `progress` is (bytes, bytes in all) of its download,
    `requests` are how many run and wait, `memory_used` is (used, total) MiB of its GPUs, whoever uses them.
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
    memory_used: tuple[int, int] | None = None

    @property
    def is_foreign(self) -> bool:
        """Whether pi would not have given it such a name: then it is shown, and nothing else is done with it."""
        return not is_name(self.name)

    @property
    def entry(self) -> Model:
        """What `pods.json` keeps of it.

        Not where its key is: which of our secrets goes to a pod, the pod must not choose.
        """
        kept = {"memory": self.memory, "private": self.is_private}
        extra = {key: value for key, value in kept.items() if value}
        return Model(self.model, self.port, self.gpu, self.pid, self.uid, extra)


@dataclass(frozen=True, slots=True)
class DeadModel:
    """A model that does not run any more; `last_words` is the end of its log.

    Without a record (`was_recorded`) another client has stopped it.
    """

    name: str
    log: str
    was_recorded: bool
    was_rebooted: bool
    last_words: str


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A file in `~/.pi/models` that was left out."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything about the models of a pod; names are unique in each list."""

    models: list[RunningModel]
    dead: list[DeadModel]
    unreadable: list[UnreadableRecord]


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder and the disk under it; sizes are in bytes, None where unknowable, as for pooled network storage.

    `is_mount`: it lies on another disk than `/`. `trouble` says why nothing is known: it is gone, or does not answer.
    """

    path: str
    total: int | None
    free: int | None
    is_mount: bool
    kind: str
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a machine is and has; `gpus` and `slices` are what `nvidia-smi` printed, `trouble` why that is not all."""

    gpus: str
    slices: str
    trouble: str | None
    home: Disk
    storage: Disk | None
    vllm: str | None
    versions: list[str]
    provider: str | None
    boot: str
    models: list[RunningModel]


@dataclass(frozen=True, slots=True)
class Holders:
    """What `nvidia-smi` printed for each question about GPU memory, and the PIDs of models' processes."""

    outputs: list[str]
    ours: list[int]


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of models that were to be stopped, in order; `freed` is in MiB of GPU memory, None where unknown."""

    outcomes: "list[protocol.Outcome]"
    freed: int | None


@dataclass(frozen=True, slots=True)
class StartEnd:
    """How a start, or watching one, ended: `exited` with `code` or by `signal`; `healthy` after `took` seconds."""

    state: Literal["launched", "healthy", "exited"]
    model: RunningModel
    took: float | None
    code: int | None
    signal: int | None


# The events of a start


@dataclass(frozen=True, slots=True)
class Placed:
    """A port and GPUs are reserved; `log` is where vLLM will write."""

    port: int
    gpu: str
    log: str


@dataclass(frozen=True, slots=True)
class Launched:
    """vLLM runs."""

    pid: int


@dataclass(frozen=True, slots=True)
class Downloaded:
    """So many bytes are there; `by` is the other start that downloads them, in words, if this one waits."""

    done: int
    total: int | None
    by: str


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """vLLM entered a phase, `at` so many seconds after its launch; None for what was over before we came."""

    text: str
    at: float | None


@dataclass(frozen=True, slots=True)
class Logged:
    """A piece of vLLM's log."""

    text: str


@dataclass(frozen=True, slots=True)
class Remark:
    """Something worth knowing, in words."""

    text: str


StartEvent = Placed | Launched | Downloaded | PhaseEntered | Logged | Remark


# Logs


@dataclass(frozen=True, slots=True)
class LogChange:
    """What happened to a log. `uid` is that of the model that writes it; `place` is where pi stands in it now."""

    event: Literal["begins", "grown", "rotated", "truncated", "lost", "restarted", "ended"]
    uid: str | None
    place: "protocol.Place"
    is_new: bool = False
    is_alive: bool = False
    exists: bool = False

"""The door between pi and the pod: every request, event, result, record and refusal of the agent, and its limits.

Types only, so nothing of it travels: the agent imports it under `TYPE_CHECKING`, and so does `pi_cli/pods/agent.py`,
which checks every value at run time. Values that both sides spell out have a `Literal` type here, so that a type
checker finds where one of them differs. The agent comes with the pi that asks; only records outlive it, and are read by
other versions.

pi sends one line of JSON, an `Envelope`. The agent answers with lines of JSON behind the `Mark`: any number of
`Event`s, then one `Answer`. After the answer to `logs` stdout carries frames: a `FrameHeader` and a payload each.
"""

from typing import Dict, List, Literal, Optional, TypedDict, Union

Version = Literal[1]
Mark = Literal["\x1epi "]  # login shells print banners to stdout: only lines that carry this are ours
FirstPort = Literal[8001]
Launching = Literal["starting vLLM"]  # the phase between the launch and the first that the log tells of
Operation = Literal["start", "attach", "survey", "inspect", "stop", "holders", "logs"]

# What crosses the door is bounded. pi gives up on an agent that sends more.
MostLine = Literal[4194304]  # bytes of a marked line
MostNoise = Literal[1048576]  # bytes outside of marked lines, before the answer
MostPayload = Literal[2097152]  # bytes of a frame's payload
MostLastWords = Literal[65536]  # bytes at the end of a dead model's log, unpacked
MostPackedWords = Literal[1048576]  # bytes of all those of one answer, packed
MostRecord = Literal[1048576]  # bytes of a record; the agent reads no larger one


class Envelope(TypedDict):
    """A request. `beat` is the number of seconds within which the agent has to send something, be it a `Beat`."""

    protocol: Version
    operation: Operation
    beat: float
    request: "Request"


# Models, as pi and the pod know them


class KnownModel(TypedDict):
    """A model in pi's own list. One without `uid` was written by hand; its PID and port have to do."""

    name: str
    uid: Optional[str]
    pid: int
    port: int
    gpu: str


class _Record(TypedDict):
    protocol: Version
    uid: str
    name: str
    model: str
    arguments: List[str]
    memory: Optional[float]
    vllm: Optional[str]
    private: bool
    port: int
    gpu: str
    pid: int
    start: int
    boot: str
    since: float
    log: str


class Record(_Record, total=False):
    """A model on the pod, in `~/.pi/models/UID.json`.

    `gpu` is a comma-separated list of ids, `memory` the share of each. `pid` is 0 until vLLM is launched; `start` is
    the start time of that process (clock ticks since boot), `since` and `touched` are seconds since boot, `boot` is the
    id of that boot. `progress` is [bytes downloaded, bytes in all], `ready` is set once it has been.
    """

    ready: bool
    progress: List[Optional[int]]
    touched: float


Status = Literal["starting", "ready", "unhealthy", "orphaned"]


class ModelReport(TypedDict):
    """A model that runs. `memory_used` is [used, total] MiB of its GPUs, whoever uses them; `age` is in seconds."""

    uid: Optional[str]
    name: str
    model: str
    port: int
    gpu: str
    pid: int
    memory: Optional[float]
    private: bool
    status: Status
    age: Optional[float]
    phase: Optional[str]
    progress: Optional[List[Optional[int]]]
    requests: Optional[List[int]]
    memory_used: Optional[List[int]]


class Death(TypedDict):
    """A model that does not run any more. `last_words` is the end of its log, as base64 of zlib, empty without one.

    `was_recorded`: its record was still there; without one, another client stopped it.
    """

    name: str
    log: str
    was_recorded: bool
    rebooted: bool
    last_words: str


# Requests


class StartRequest(TypedDict):
    """What to start, and where.

    pi has chosen `gpus` seeing only the models `beside` on them, and `memory`, the share of each that this one takes.
    `known` are the models of pi's own list for this pod: they count as taken too. `devices` are CUDA's names for GPUs
    that have no number (MIG slices have UUIDs), by id. The Hub token is in `download_environment` only: the server has
    no use for it. The `arguments` are `own` if the user gave them; `size` is that of the download in bytes, `revision`
    the one that the arguments name. `pod` is what pi calls this pod. With `wait` the agent watches vLLM until it
    answers.
    """

    uid: str
    name: str
    model: str
    arguments: List[str]
    own: bool
    environment: Dict[str, str]
    download_environment: Dict[str, str]
    gpus: List[int]
    devices: Dict[str, str]
    beside: List[str]
    memory: Optional[float]
    known: List[KnownModel]
    middleware: str
    min_vllm: Optional[str]
    download: bool
    size: Optional[int]
    revision: Optional[str]
    pod: str
    private: bool
    wait: bool


class AttachRequest(TypedDict):
    """The model to watch until it is ready."""

    name: str


class SurveyRequest(TypedDict):
    """Ask what runs. With `forget` the records of dead models are deleted."""

    known: List[KnownModel]
    forget: bool


class InspectRequest(TypedDict):
    """Ask what the machine has; with `known` also what runs. The questions are commands for `nvidia-smi`."""

    gpu_query: List[str]
    gpu_list: List[str]
    known: Optional[List[KnownModel]]


class StopRequest(TypedDict):
    """The models to end."""

    models: List[KnownModel]


class HoldersRequest(TypedDict):
    """Ask which processes hold GPU memory. The questions are commands for `nvidia-smi`."""

    questions: List[List[str]]


class FileId(TypedDict):
    """By what a log file is known again: its inode, which a copy has not, and its first `length` bytes' CRC-32."""

    inode: int
    length: int
    sum: int


class Place(FileId):
    """Where pi stands in a log."""

    offset: int


class LogSource(TypedDict):
    """A model whose log is read, from `place` on where pi has read it before."""

    name: str
    uid: Optional[str]
    pid: int
    port: int
    gpu: str
    place: Optional[Place]


class Moment(TypedDict, total=False):
    """A time in the past, one of: seconds `ago`; `clock`, the last such time of day on the pod; `local`, a date and
    time on the pod; `utc`, seconds since 1970."""

    ago: float
    clock: str
    local: str
    utc: float


class LogsRequest(TypedDict):
    """The last `lines` (None: all) since a moment that match `grep`; with `follow` also what comes."""

    sources: List[LogSource]
    lines: Optional[int]
    since: Optional[Moment]
    grep: Optional[str]
    follow: bool


Request = Union[
    StartRequest, AttachRequest, SurveyRequest, InspectRequest, StopRequest, HoldersRequest, LogsRequest
]  # fmt: skip


# Events


class Beat(TypedDict):
    """The agent is alive and has nothing else to say."""

    event: Literal["beat"]


class Placed(TypedDict):
    """A port and GPUs are reserved."""

    event: Literal["placed"]
    port: int
    gpu: str
    log: str


class Launched(TypedDict):
    """vLLM runs."""

    event: Literal["launched"]
    pid: int


class Holder(TypedDict):
    """Another start that downloads the same model: on this pod if `is_here`, else on `pod`, where that is known."""

    is_here: bool
    pod: Optional[str]


class Progress(TypedDict):
    """Bytes of the download; `by` is the other start that downloads it, if this one waits."""

    event: Literal["progress"]
    done: int
    total: Optional[int]
    by: Optional[Holder]


class Phase(TypedDict):
    """vLLM entered a phase, `at` so many seconds after its launch; None for what was over before we came."""

    event: Literal["phase"]
    text: str
    at: Optional[float]


class LogText(TypedDict):
    """A piece of vLLM's log."""

    event: Literal["log"]
    text: str


class WaitsForDownload(TypedDict):
    """Another start downloads the model to the same cache."""

    event: Literal["waits-for-download"]
    by: Holder


class PartsDeleted(TypedDict):
    """What broken downloads had left was deleted."""

    event: Literal["parts-deleted"]
    files: int
    bytes: int


class DownloadRestarted(TypedDict):
    """No byte came for `seconds`: hf was started once more."""

    event: Literal["download-restarted"]
    seconds: float
    without_xet: bool


class DownloadStalled(TypedDict):
    """No byte has come for `seconds`."""

    event: Literal["download-stalled"]
    seconds: float


class WaitsForLock(TypedDict):
    """Another process holds a lock that hf needs; `pid` is None where it cannot be seen."""

    event: Literal["waits-for-lock"]
    path: str
    pid: Optional[int]


class HubSilent(TypedDict):
    """The Hub does not answer, and what is in the cache will do."""

    event: Literal["hub-silent"]


class FreeSpaceUnknown(TypedDict):
    """How much is free for the download cannot be known: a shared pool tells the size of all of it."""

    event: Literal["free-space-unknown"]
    path: str


Note = Union[
    WaitsForDownload, PartsDeleted, DownloadRestarted, DownloadStalled, WaitsForLock, HubSilent, FreeSpaceUnknown
]  # fmt: skip
Event = Union[Beat, Placed, Launched, Progress, Phase, LogText, Note]


# Results


class StartResult(TypedDict):
    """How a start, or watching one, ended: `exited` with `code` or by `signal`; `healthy` after `took` seconds."""

    state: Literal["launched", "healthy", "exited"]
    record: Record
    took: Optional[float]
    code: Optional[int]
    signal: Optional[int]


class Unreadable(TypedDict):
    """A record that was left out, by its file's name."""

    file: str
    reason: str


class Survey(TypedDict):
    """What runs on the pod, and what of pi's list and of its own records does not any more."""

    models: List[ModelReport]
    dead: List[Death]
    unreadable: List[Unreadable]


class Disk(TypedDict):
    """A folder and the disk under it; sizes in bytes, None where unknowable. `trouble` says why nothing is known."""

    path: str
    total: Optional[int]
    free: Optional[int]
    is_mount: bool
    kind: str
    trouble: Optional[str]


class Inspection(TypedDict):
    """What the machine is and has; `gpus` and `slices` are what `nvidia-smi` printed."""

    gpus: str
    slices: str
    trouble: Optional[str]
    home: Disk
    storage: Optional[Disk]
    vllm: Optional[str]
    versions: List[str]
    provider: Optional[str]
    boot: str
    models: Optional[List[ModelReport]]


Outcome = Literal["stopped", "killed", "gone", "stuck"]


class StopResult(TypedDict):
    """What became of the models, in the order asked for; `freed` is in MiB of GPU memory, None where unknown."""

    outcomes: List[Outcome]
    freed: Optional[int]


class Holders(TypedDict):
    """What `nvidia-smi` printed for each question, and the PIDs of models' processes."""

    outputs: List[str]
    ours: List[int]


class LogsBegin(TypedDict):
    """Frames follow."""


Result = Union[StartResult, Survey, Inspection, StopResult, Holders, LogsBegin]


# Refusals

Code = Literal[
    "name-taken", "gpus-taken", "no-port", "not-there", "stopped", "no-log", "bad-pattern", "not-set-up",
    "vllm-too-old", "not-mounted", "no-room-on-disk", "download", "hub-unreachable", "locked", "environment", "os",
    "bug",
]  # fmt: skip


class Refusal(TypedDict, total=False):
    """Why a request cannot be done. `code` is always there, the facts that belong to it are too:

    name-taken      name, port      a model of that name runs
    gpus-taken      names           models that pi did not know of are on the GPUs
    no-port                         no port is free
    not-there       name            no such model runs
    stopped         name            another client stopped it while it was downloading
    no-log          path, reason
    bad-pattern     reason          the pod's Python cannot compile it
    not-set-up      program         it is not installed
    vllm-too-old    names           the versions that are there
    not-mounted     path, reason    the volume for models is gone
    no-room-on-disk path, paths, frees, and free and lacking and total, or free and before; bytes
    download        reason          what hf printed
    locked          path, seconds   another agent holds the lock
    environment     seconds         ~/.pi/env did not end
    hub-unreachable reason          what hf printed
    os              path, reason, errno   the system refused something
    bug             reason          an exception in the agent
    """

    code: Code
    name: str
    names: List[str]
    port: int
    program: str
    path: str
    paths: List[str]
    reason: str
    errno: int
    seconds: float
    free: Optional[int]
    before: Optional[int]
    lacking: Optional[int]
    total: Optional[int]
    frees: int


class Answered(TypedDict):
    """The end of a request that was done."""

    result: Result


class Refused(TypedDict):
    """The end of a request that cannot be done."""

    refusal: Refusal


Answer = Union[Answered, Refused]

# Frames of logs

FrameHeader = Literal["!BHIQ"]  # kind, number of the source, bytes of payload, offset in the file after it
FrameKind = Literal[0, 1, 2]  # bytes of the file, a `LogEvent`, a beat


class LogEvent(TypedDict):
    """What happened to a log; `uid` is that of the model that writes it now, `file` the file that pi stands in."""

    event: Literal["grown", "rotated", "truncated", "lost", "restarted", "ended"]
    uid: Optional[str]
    file: FileId


class LogBegins(TypedDict):
    """The first event of each log. `is_new`: pi has not read it before; `alive`: its model runs; `exists`: it does."""

    event: Literal["begins"]
    uid: Optional[str]
    file: FileId
    is_new: bool
    alive: bool
    exists: bool

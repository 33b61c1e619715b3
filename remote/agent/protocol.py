"""The protocol between pi and its agent: requests, events, results, records, refusals, and their limits.

Types only, so this module is never sent: the agent imports it under `TYPE_CHECKING`, and so does
`pi_cli/pods/agent.py`, which checks every value at run time. Constants that both sides define have a `Literal` type
here, so mypy reports a difference. pi sends the agent with each command, so both have the same version; only records
are also read by other versions.

pi sends one line of JSON, an `Envelope`. The agent replies with lines of JSON that begin with the `Mark`: any number of
`Event`s, then one `Reply`. After the reply to `logs`, stdout carries frames: each is a `FrameHeader` and a payload.
"""

from typing import Dict, List, Literal, Optional, TypedDict, Union, final

Version = Literal[1]
Mark = Literal["\x1epi "]  # login shells print banners to stdout; lines of the agent contain this mark
FirstPort = Literal[8001]
Launching = Literal["starting vLLM"]  # the phase from the launch until the first phase that the log shows
Operation = Literal["start", "attach", "survey", "inspect", "stop", "holders", "logs", "store", "purge"]

# Limits. pi disconnects from an agent that sends more.
MaxLine = Literal[4194304]  # bytes of a marked line
MaxNoise = Literal[1048576]  # bytes outside marked lines, before the reply
MaxPayload = Literal[2097152]  # bytes of a frame's payload
MaxLogEnd = Literal[65536]  # bytes from the end of a dead model's log, uncompressed
MaxLogEnds = Literal[1048576]  # bytes of all log ends in one reply, compressed
MaxAbilities = Literal[1048576]  # bytes of what a vLLM said about itself; the agent skips a larger file
MaxRecord = Literal[1048576]  # bytes of a record; the agent rejects a larger one


class Envelope(TypedDict):
    """A request. Every `beat` seconds, the agent has to send something, at least a `Beat`."""

    protocol: Version
    operation: Operation
    beat: float
    request: "Request"


# Models


class KnownModel(TypedDict):
    """A model in pi's own list. One without `uid` was written by hand, and is identified by its PID and port."""

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
    machine: str
    since: float
    log: str


class Record(_Record, total=False):
    """A model on the pod, in `~/.pi/models/UID.json`.

    `gpu` is a comma-separated list of ids, `memory` the share of each GPU. `pid` is 0 until vLLM is launched; `start`
    is the start time of that process (clock ticks since boot). `since` (reservation, then launch) and `touched` (by a
    download) are seconds since boot, `boot` is the id of that boot, `machine` that of the
    machine (see `machine.identity`; empty in records of older versions). `progress` is [bytes downloaded, total].
    `ready` is set when the model is first seen ready. `dated`: the middleware sets the time of the file when a client
    uses the model.
    """

    ready: bool
    dated: bool
    progress: List[Optional[int]]
    touched: float


Status = Literal["starting", "ready", "unhealthy", "orphaned"]


class Metrics(TypedDict):
    """The work of a model by vLLM's own counters, summed over its engines; `at` is the pod's monotonic clock.

    Tokens and first tokens count since the start of vLLM, `first_token_seconds` is the sum of the times until the first
    tokens, `kv_cache` a share from 0 to 1. What this vLLM does not report is None.
    """

    at: float
    running: Optional[float]
    waiting: Optional[float]
    prompt_tokens: Optional[float]
    generation_tokens: Optional[float]
    kv_cache: Optional[float]
    first_token_seconds: Optional[float]
    first_tokens: Optional[float]


class ModelReport(TypedDict):
    """A running model. `memory_used` is [used, total] MiB of its GPUs, by all processes; `age` is in seconds.

    `metrics` are reported if the request was for the live state, and the model is ready. `idle` is for how many seconds
    no client has used it; None if that is unknown.

    `listens`: one of its processes listens on its port now. `proof_keys` are what it proves itself with, as hex.
    """

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
    metrics: Optional[Metrics]
    idle: Optional[float]
    memory_used: Optional[List[int]]
    listens: bool
    proof_keys: List[str]


class GpuLoad(TypedDict):
    """A GPU: [used, total] MiB, percent of the time in use, watts, degrees Celsius; None if nvidia-smi does not know.

    `mig`: it is divided into MIG slices.
    """

    id: int
    name: str
    memory: Optional[List[int]]
    utilization: Optional[float]
    power: Optional[float]
    power_limit: Optional[float]
    temperature: Optional[float]
    mig: bool


class Death(TypedDict):
    """A model that no longer runs. `log_end` is the end of its log, as base64 of zlib, or empty.

    `was_recorded`: its record was still on the pod; otherwise another client stopped it.
    """

    name: str
    log: str
    was_recorded: bool
    rebooted: bool
    log_end: str


# Requests


class StartRequest(TypedDict):
    """What to start, and where.

    pi chose `gpus` when only the models `beside` were on them, and `memory`, the share of each GPU for this model.
    `known` are the models of pi's own list for this pod, which count as running too. `devices` maps GPU ids to CUDA's
    names for GPUs without a number (MIG slices have UUIDs). The Hub token is in `download_environment` only, since the
    server does not need it. `own`: the user gave the `arguments`. `parser` is a program that asks vLLM about them; both
    it and `middleware` are compressed (zlib), in base64.
    `size` is that of the download in bytes, `revision` the one that the arguments name. `pod` is the user's name for
    this pod. With `wait`, the agent follows vLLM until it answers.
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
    parser: str
    min_vllm: Optional[str]
    download: bool
    size: Optional[int]
    revision: Optional[str]
    pod: str
    private: bool
    wait: bool


class AttachRequest(TypedDict):
    """The model to follow until it is ready."""

    name: str


class SurveyRequest(TypedDict):
    """Ask which models run. With `forget`, the agent deletes the records of dead models.

    With `live`, it also reports the load of the GPUs and of the models, but not the ends of the logs of dead ones.
    """

    known: List[KnownModel]
    forget: bool
    live: bool


class InspectRequest(TypedDict):
    """Ask what the machine has; with `known`, also which models run. The queries are `nvidia-smi` commands.

    `abilities` are the SHA-256 of what pi has of `Abilities`. `cuda` is the program that asks whether CUDA works, None
    if it is not asked.
    """

    gpu_query: List[str]
    gpu_list: List[str]
    known: Optional[List[KnownModel]]
    abilities: List[str]
    cuda: Optional[str]


class StopRequest(TypedDict):
    """The models to stop. With `exact`, only the launches with these uids, not others of the same names."""

    models: List[KnownModel]
    exact: bool


class HoldersRequest(TypedDict):
    """Ask which processes hold GPU memory. The queries are `nvidia-smi` commands."""

    questions: List[List[str]]


class FileId(TypedDict):
    """The identity of a log file: its inode, which a copy does not have, and the CRC-32 of its first `length` bytes."""

    inode: int
    length: int
    sum: int


class LogPosition(FileId):
    """How far pi has read a log."""

    offset: int


class LogSource(TypedDict):
    """A model whose log is read; from `position` on, if pi has read it before."""

    name: str
    uid: Optional[str]
    pid: int
    port: int
    gpu: str
    position: Optional[LogPosition]


@final
class SecondsAgo(TypedDict):
    """A number of seconds before now."""

    ago: float


@final
class TimeOfDay(TypedDict):
    """The latest such time of day on the pod."""

    clock: str


@final
class LocalTime(TypedDict):
    """A date and time on the pod."""

    local: str


@final
class UtcTime(TypedDict):
    """Seconds since 1970."""

    utc: float


Moment = Union[SecondsAgo, TimeOfDay, LocalTime, UtcTime]


class LogsRequest(TypedDict):
    """The last `lines` (None: all) since a moment that match `grep`; with `follow`, also later lines.

    Without `looks`, the requests with which pi itself looks at a model are left out.
    """

    sources: List[LogSource]
    lines: Optional[int]
    since: Optional[Moment]
    grep: Optional[str]
    follow: bool
    looks: bool


class UploadedFile(TypedDict):
    """A file of the user's machine; `size` is in bytes."""

    name: str
    size: int


class StoreRequest(TypedDict):
    """Files for vLLM, under the SHA-256 of their names, sizes and content, of which `digest` is the beginning.

    If pi `sends` them, their bytes follow the request, and the end of stdin before that undoes everything.
    """

    digest: str
    files: List[UploadedFile]
    sends: bool


class PurgeRequest(TypedDict):
    """Ask what setup and starts have put on the machine; with `delete`, delete it, with `models` the models too."""

    delete: bool
    models: bool


Request = Union[
    StartRequest, AttachRequest, SurveyRequest, InspectRequest, StopRequest, HoldersRequest, LogsRequest, StoreRequest,
    PurgeRequest,
]  # fmt: skip


# Events


@final
class Beat(TypedDict):
    """The agent is alive and has nothing else to report."""

    event: Literal["beat"]


@final
class Placed(TypedDict):
    """A port and GPUs are reserved."""

    event: Literal["placed"]
    port: int
    gpu: str
    log: str


@final
class Launched(TypedDict):
    """vLLM was launched."""

    event: Literal["launched"]
    pid: int


class Downloader(TypedDict):
    """Another start that downloads the same model: on this pod if `is_here`, else on `pod`, if that is known."""

    is_here: bool
    pod: Optional[str]


@final
class Progress(TypedDict):
    """Bytes downloaded; `by` is the other start that downloads them, if this start waits."""

    event: Literal["progress"]
    done: int
    total: Optional[int]
    by: Optional[Downloader]


@final
class Phase(TypedDict):
    """vLLM entered a phase `at` seconds after its launch; None if it did so before the agent began to follow."""

    event: Literal["phase"]
    text: str
    at: Optional[float]


@final
class LogText(TypedDict):
    """A part of vLLM's log."""

    event: Literal["log"]
    text: str


@final
class WaitsForDownload(TypedDict):
    """Another start downloads the model to the same cache."""

    event: Literal["waits-for-download"]
    by: Downloader


@final
class PartsDeleted(TypedDict):
    """Partial files of broken downloads were deleted."""

    event: Literal["parts-deleted"]
    files: int
    bytes: int


@final
class DownloadRestarted(TypedDict):
    """No data arrived for `seconds`, so hf was restarted."""

    event: Literal["download-restarted"]
    seconds: float
    without_xet: bool


@final
class DownloadStalled(TypedDict):
    """No data has arrived for `seconds`."""

    event: Literal["download-stalled"]
    seconds: float


@final
class WaitsForLock(TypedDict):
    """Another process holds a lock that hf needs; `pid` is None if it cannot be seen from here."""

    event: Literal["waits-for-lock"]
    path: str
    pid: Optional[int]


@final
class HubSilent(TypedDict):
    """The Hub does not answer, and the model in the cache is used."""

    event: Literal["hub-silent"]


@final
class FreeSpaceUnknown(TypedDict):
    """The free space for the download is unknown: a shared pool reports its total size."""

    event: Literal["free-space-unknown"]
    path: str


@final
class LockElsewhere(TypedDict):
    """The file system of this lock refuses locks: the agent uses one outside of the home."""

    event: Literal["lock-elsewhere"]
    path: str


@final
class DriverSlow(TypedDict):
    """nvidia-smi has not answered for `seconds`; the agent waits until `limit`."""

    event: Literal["driver-slow"]
    seconds: float
    limit: float


Note = Union[
    WaitsForDownload, PartsDeleted, DownloadRestarted, DownloadStalled, WaitsForLock, HubSilent, FreeSpaceUnknown,
    LockElsewhere, DriverSlow,
]  # fmt: skip
Event = Union[Beat, Placed, Launched, Progress, Phase, LogText, Note]


# Results


class StartResult(TypedDict):
    """The end of a start that was followed: `exited` with `code` or by `signal`, or `healthy` after `took` seconds."""

    state: Literal["launched", "healthy", "exited"]
    record: Record
    took: Optional[float]
    code: Optional[int]
    signal: Optional[int]


class Unreadable(TypedDict):
    """A record that was skipped, by the path of its file."""

    file: str
    reason: str


class Elsewhere(TypedDict):
    """A model of pi's list that another machine with the same home has started."""

    name: str
    machine: str


class Survey(TypedDict):
    """The models that run on the pod, and those of pi's list and of the pod's records that no longer do.

    `refused_lock` is the path of a lock that the file system refused, the first time that this happens after a boot.
    `driver_hangs`: nvidia-smi did not answer at once, so that the memory of the GPUs is unknown. `gpus` is empty unless
    the request was for the live state.
    """

    models: List[ModelReport]
    dead: List[Death]
    unreadable: List[Unreadable]
    elsewhere: List[Elsewhere]
    refused_lock: Optional[str]
    driver_hangs: bool
    gpus: List[GpuLoad]


class Disk(TypedDict):
    """A folder and its disk; sizes in bytes, None if they cannot be known. `trouble` is why nothing is known."""

    path: str
    total: Optional[int]
    free: Optional[int]
    is_mount: bool
    kind: str
    trouble: Optional[str]


class Abilities(TypedDict):
    """What a vLLM on the machine said about itself at setup (`setup/vllm_abilities.py`): size and SHA-256 of the file.

    `packed` is the content, as base64 of zlib: of the default vLLM only, and empty if pi has it.
    """

    version: Optional[str]
    is_default: bool
    size: int
    digest: str
    packed: str


Driver = Literal["answers", "fails", "hangs", "missing"]  # what nvidia-smi did
CudaProblem = Literal[
    "", "error", "no-library", "hidden-library", "broken-library", "stub-library", "lost-gpus", "hangs", "crashed",
    "unasked",
]  # fmt: skip


class CudaAnswer(TypedDict):
    """What `setup/ask_cuda.py` has found out; `problem` is empty if CUDA works, at least on some GPUs.

    `code` is an error of CUDA, `gpus` lists [GPU, error of CUDA], `count` is the number of GPUs that CUDA finds,
    `expected` that of nvidia-smi (0: not compared), `version` 13000 for CUDA 13.0. With a problem: `library` is the
    file that was loaded, `driver` the version of the kernel module, `entry` the file that makes the loader find the
    library, `lacking` and `denied` are files in /dev, `reason` are the loader's or the system's own words.
    """

    problem: CudaProblem
    code: int
    reason: str
    gpus: List[List[int]]
    count: int
    expected: int
    version: int
    library: str
    driver: str
    entry: str
    lacking: List[str]
    denied: List[str]
    simulated: bool


class Inspection(TypedDict):
    """The state of the machine; `gpus` and `slices` are output of `nvidia-smi`.

    `home` is the home folder, `place` the folder of `--home` if that is another.
    """

    gpus: str
    slices: str
    trouble: Optional[str]
    driver: Driver
    home: Disk
    place: Optional[Disk]
    storage: Optional[Disk]
    vllm: Optional[str]
    versions: List[str]
    abilities: List[Abilities]
    provider: Optional[str]
    boot: str
    models: Optional[List[ModelReport]]
    cuda: Optional[CudaAnswer]


Outcome = Literal["stopped", "killed", "gone", "stuck"]


class StopResult(TypedDict):
    """The outcome for each model, in the order of the request; `freed` is in MiB of GPU memory, None if unknown.

    `others` tells for each model whether another launch of the same name was stopped than the one in the request.
    """

    outcomes: List[Outcome]
    others: List[bool]
    freed: Optional[int]


class Holders(TypedDict):
    """The output of `nvidia-smi` for each query, and the PIDs of the models' processes."""

    outputs: List[str]
    ours: List[int]


class LogsBegin(TypedDict):
    """Frames follow."""


class StoreResult(TypedDict):
    """The folder of the files on the pod, and whether they are in it."""

    folder: str
    is_stored: bool


PurgedKind = Literal["vllm", "uv", "models", "logs", "records", "state"]
KeptReason = Literal["not-made-by-setup", "other-machine", "maybe-yours", "own-lines", "models"]


class PurgedPart(TypedDict):
    """A file or folder that is deleted, with the size and the number of the files in it."""

    kind: PurgedKind
    path: str
    bytes: int
    files: int


class KeptPlace(TypedDict):
    """A file or folder that stays."""

    path: str
    reason: KeptReason


class PurgeResult(TypedDict):
    """What is deleted, or would be, and what stays. `shared_models`: other machines may use the models' volume."""

    parts: List[PurgedPart]
    kept: List[KeptPlace]
    shared_models: bool


Result = Union[StartResult, Survey, Inspection, StopResult, Holders, LogsBegin, StoreResult, PurgeResult]


# Refusals

Code = Literal[
    "arguments", "name-taken", "gpus-taken", "no-port", "not-there", "stopped", "no-log", "bad-pattern", "not-set-up",
    "vllm-too-old", "not-mounted", "no-room-on-disk", "download", "hub-unreachable", "locked", "environment",
    "not-ours", "in-use", "os", "bug",
]  # fmt: skip


class Refusal(TypedDict, total=False):
    """Why a request was refused. `code` determines which other keys are set:

    arguments       name, reason, options   vLLM of version `name` refuses them; it knows these options
    name-taken      name, port      a model with that name runs
    gpus-taken      names           models that pi did not know of are on the GPUs
    no-port                         no port is free
    not-there       name            no such model runs
    stopped         name            another client stopped it before vLLM was started
    no-log          path, reason
    bad-pattern     reason          the pod's Python cannot compile it
    not-set-up      program, path   it is not installed; `path`, if there is one: it was in that folder, which is gone
    vllm-too-old    names           the installed versions
    not-mounted     path, reason    the volume for models is gone
    no-room-on-disk path, paths, frees, and free and lacking and total, or free and before; bytes
    download        reason          the output of hf
    locked          path, seconds   another agent holds the lock
    environment     seconds         ~/.pi/env did not end
    hub-unreachable reason          the output of hf
    not-ours        path, name      ~/.pi, or its env, belongs to this user
    in-use          names, path     these models run; or a setup or a download holds the file
    os              path, reason, errno   a system call failed
    bug             reason          an exception in the agent
    """

    code: Code
    name: str
    names: List[str]
    options: List[str]
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


@final
class ResultReply(TypedDict):
    """The reply to a request that was carried out."""

    result: Result


@final
class RefusalReply(TypedDict):
    """The reply to a request that was refused."""

    refusal: Refusal


Reply = Union[ResultReply, RefusalReply]
# `Event` and `Reply`, in one flat union of final types: only then does mypy know which of them have a key.
Message = Union[
    Beat, Placed, Launched, Progress, Phase, LogText, WaitsForDownload, PartsDeleted, DownloadRestarted,
    DownloadStalled, WaitsForLock, HubSilent, FreeSpaceUnknown, LockElsewhere, DriverSlow, ResultReply,
    RefusalReply,
]  # fmt: skip
MessageKey = Literal["event", "result", "refusal"]  # every message has one of them

# Frames of logs

FrameHeader = Literal["!BHIQ"]  # kind, number of the source, bytes of payload, offset in the file after it
DataKind = Literal[0]  # bytes of the file
EventKind = Literal[1]  # a `LogEvent` or a `LogBegins`
BeatKind = Literal[2]


Change = Literal["grown", "rotated", "truncated", "lost", "restarted", "ended", "too-slow"]


class LogEvent(TypedDict):
    """A change of a log; `uid` is that of the model that writes it now, `file` the file that pi reads.

    `too-slow`: the pattern takes longer for one line of it than the agent searches; nothing follows.
    """

    event: Change
    uid: Optional[str]
    file: FileId


class LogBegins(TypedDict):
    """The first event of a log. `is_new`: pi has not read it before; `alive`: its model runs; `exists`: it exists."""

    event: Literal["begins"]
    uid: Optional[str]
    file: FileId
    is_new: bool
    alive: bool
    exists: bool

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
MasterPort = Literal[29501]  # vLLM's default for --master-port
Launching = Literal["starting vLLM"]  # the phase from the launch until the first phase that the log shows
Operation = Literal[
    "start", "attach", "survey", "inspect", "stop", "holders", "logs", "store", "purge", "lease", "clean", "gateway",
    "network", "launches", "bench",
]  # fmt: skip

# Limits. pi disconnects from an agent that sends more.
MaxLine = Literal[4194304]  # bytes of a marked line
MaxNoise = Literal[1048576]  # bytes outside marked lines, before the reply
MaxPayload = Literal[2097152]  # bytes of a frame's payload
MaxLogEnd = Literal[65536]  # bytes from the end of a dead model's log, uncompressed
MaxLogEnds = Literal[1048576]  # bytes of all log ends in one reply, compressed
MaxAbilities = Literal[1048576]  # bytes of what a vLLM said about itself; the agent skips a larger file
MaxKernelLines = Literal[5]  # of the kernel's log, about a death
MaxRecord = Literal[1048576]  # bytes of a record; the agent rejects a larger one


class _Envelope(TypedDict):
    protocol: Version
    operation: Operation
    beat: float
    request: "Request"


class Envelope(_Envelope, total=False):
    """A request. Every `beat` seconds, the agent has to send something, at least a `Beat`.

    If it `stays`, its answer is not its end: on stdin follow a line with a length, that many bytes of the compressed
    modules that it does not have yet, and the next envelope; or stdin ends. With `keep`, it stores its program on the
    pod if it can, and reports that (`Kept`).
    """

    stays: bool
    keep: bool


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


RecordKind = Literal["model", "gateway", "lease"]
Role = Literal["head", "node"]  # of a pod in a model that runs over several


class Record(_Record, total=False):
    """A model on the pod, in `~/.pi/models/UID.json`.

    `gpu` is a comma-separated list of ids, `memory` the share of each GPU. `pid` is 0 until vLLM is launched; `start`
    is the start time of that process (clock ticks since boot). `since` (reservation, then launch) and `touched` (by a
    download) are seconds since boot, `boot` is the id of that boot, `machine` that of the
    machine (see `machine.identity`; empty in records of older versions). `progress` is [bytes downloaded, total];
    `warming`: vLLM compiles meanwhile.
    `origins` has the origin of each argument, `variables` what the plan adds to the environment, `given` the names of
    the user's own variables, `commit` the resolved revision of the Hub: for `Launches`.
    `ready` is set when the model is first seen ready. `dated`: the middleware sets the time of the file when a client
    uses the model. `kind` is `model` if it is absent; a `gateway` is a balancer in front of engines, with the marker
    and without a GPU.
    A model over several pods has a record with the same uid on each of them, with this pod's `role`;
    `peers` are all of these pods, the head first, as the user who started it calls them.
    """

    kind: RecordKind
    origins: List["Origin"]
    variables: Dict[str, str]
    given: List[str]
    commit: str
    ready: bool
    dated: bool
    progress: List[Optional[int]]
    warming: bool
    touched: float
    role: Role
    peers: List[str]


# Of an argument: the catalogue or a published recipe, pi's plan, a file or an option of the user, pi itself, a lock.
Origin = Literal["catalogue", "planned", "file", "command", "pi", "lock"]
Then = Literal["stop-pod"]
LeasePhase = Literal["loading", "busy", "idle", "silent", "died", "ending", "stuck", "stopping-pod"]
LeaseWhy = Literal["idle", "load", "died"]
LeasePod = Literal["billed", "kept", "asked", "stopped", "failed"]
Watcher = Literal["lives", "revived", "dead"]
StoppingProvider = Literal["runpod", "vast"]


class Lease(TypedDict):
    """The lease of a launch, in `~/.pi/leases/UID.json`: end it after `seconds` without work, and `then` stop the pod.

    `life` changes when the machine or its container is started again.
    """

    uid: str
    name: str
    seconds: float
    then: Optional[Then]
    life: str


class LeaseState(TypedDict):
    """What a watcher has seen, in `~/.pi/leases/UID.state`.

    `pid` and `start` are those of the watcher. `since` is when the phase began, by the monotonic clock; `counters` are
    vLLM's at the last look. `silent`: the model does not answer, or does not report its work.
    """

    pid: int
    start: int
    phase: LeasePhase
    since: float
    counters: Optional[List[float]]


class LeaseReport(TypedDict):
    """A lease and its present state; `left` is None while its clock stands still. `revived`: the watcher had died."""

    uid: str
    name: str
    seconds: float
    left: Optional[float]
    phase: LeasePhase
    phase_seconds: float
    then: Optional[Then]
    watcher: Watcher


class LeaseEnd(TypedDict):
    """The end of a model by its lease, `at` seconds since 1970, after `idle` seconds; in `~/.pi/leases/ended.jsonl`.

    `why`: it was `idle`, it never became ready (`load`), or it had `died` before. `outcome` is that of the stop,
    `freed` in MiB. `pod`: it is `billed`, was `kept` for the `others`, the provider was `asked` to stop it, has
    accepted that (`stopped`), or has not (`failed`, with the `reason`). `off` is for how long it did not run then.
    """

    at: float
    uid: str
    name: str
    why: LeaseWhy
    idle: float
    outcome: str
    freed: Optional[int]
    pod: LeasePod
    reason: str
    others: List[str]
    off: float


Status = Literal["starting", "ready", "stalled", "unhealthy", "orphaned"]


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
    `role` and `peers` are those of a model over several pods, as in its `Record`. A node has no port and no server: it
    is `ready` while its processes run.
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
    lease: Optional[LeaseReport]
    memory_used: Optional[List[int]]
    listens: bool
    proof_keys: List[str]
    kind: RecordKind
    role: Optional[Role]
    peers: List[str]


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

    `was_recorded`: its record was still on the pod; otherwise another client stopped it, or its lease ended it.
    """

    name: str
    log: str
    was_recorded: bool
    rebooted: bool
    log_end: str
    lease_end: Optional[LeaseEnd]


# Requests


class LeaseWish(TypedDict):
    """A lease for a launch; `program` is that of its watcher, compressed (zlib), in base64."""

    seconds: float
    then: Optional[Then]
    program: str


class Across(TypedDict):
    """The part of one pod in a model over several pods, the `peers`; the head has the rank 0.

    `master` and `master_port` are the private address of the head and a free port there, where the nodes meet it;
    `address` is this pod's own private address, `interface` the network interface that has it.
    """

    role: Role
    rank: int
    peers: List[str]
    master: str
    master_port: int
    address: str
    interface: str


class GpuState(TypedDict):
    """The GPUs of a start as pi has seen them before it: their kind and driver in words, and MiB in all and in use."""

    kind: str
    total: List[int]
    used: List[int]


class StartRequest(TypedDict):
    """What to start, and where.

    pi chose `gpus` when only the models `beside` were on them, and `memory`, the share of each GPU for this model.
    `known` are the models of pi's own list for this pod, which count as running too. `devices` maps GPU ids to CUDA's
    names for GPUs without a number (MIG slices have UUIDs). The Hub token is in `download_environment` only, since the
    server does not need it. `own`: the user gave the `arguments`. `parser` is a program that asks vLLM about them; both
    it and `middleware` are compressed (zlib), in base64. `origins` has one for each argument; `variables` are those of
    the plan in `environment`, and `given` the names of the user's.
    `size` is that of the download in bytes, `revision` the one that the arguments name. `pod` is the user's name for
    this pod. `gpu_state` is None if it is not known. With `warm_up`, vLLM compiles during the download. With `wait`,
    the agent follows vLLM until it answers. With `across`, this is one part of a model over several pods: once the
    model is downloaded, the agent sends `Fetched`, and launches vLLM when a line follows.
    """

    uid: str
    name: str
    model: str
    arguments: List[str]
    origins: List[Origin]
    variables: Dict[str, str]
    given: List[str]
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
    lease: Optional[LeaseWish]
    wait: bool
    across: Optional[Across]
    gpu_state: Optional[GpuState]
    warm_up: bool


class AttachRequest(TypedDict):
    """The model to follow until it is ready."""

    name: str


class SurveyRequest(TypedDict):
    """Ask which models run. With `forget`, for a list of models, the agent deletes the records of dead ones.

    With `memory`, it also reports the memory of the GPUs, for which a slow driver may have to be waited for; with
    `live`, that and the load of the GPUs and of the models, but not the ends of the logs of dead ones.
    """

    known: List[KnownModel]
    forget: bool
    memory: bool
    live: bool


class LaunchesRequest(TypedDict):
    """Ask how the models were started that run, and what the vLLMs were installed from."""


class BenchRequest(TypedDict):
    """One level of a benchmark of a model: so many `prompts` of random tokens, `streams` of them at a time."""

    name: str
    streams: int
    prompts: int
    input_tokens: int
    output_tokens: int
    seed: int


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


class LeaseRequest(TypedDict):
    """Show the leases of the pod; before that, `set` that of a model, end it (`off`), or `check` whether the provider
    would stop this pod. Without `then` in the `wish`, what follows stays as it is."""

    action: Literal["show", "set", "off", "check"]
    name: str
    wish: Optional[LeaseWish]


class CleanRequest(TypedDict):
    """Delete what was compiled for a model: `name` is that of its log, `environment` is what vLLM would get."""

    name: str
    model: str
    min_vllm: Optional[str]
    environment: Dict[str, str]


class GatewayEngine(TypedDict):
    """An engine on a pod: where it may be reached, and what it proves itself with, as hex."""

    id: str
    hosts: List[str]
    port: int
    proof_keys: List[str]


GatewayAction = Literal["start", "refresh", "add", "leave"]


class GatewayRequest(TypedDict):
    """Start the balancer `package` of `version`, or change which engines the one called `name` uses.

    `refresh` replaces its manifest; `add` adds these engines to it. `leave` takes them out where another one has the
    same name, and waits up to `seconds` for the answers in progress; it puts them back if pi ends meanwhile. `key` is
    that of the engines and of the clients. `requirements` and `launcher` are compressed. With `install`, the balancer
    is installed if it is missing. `port` is None for the next free one; `public`: on all addresses.
    """

    uid: str
    name: str
    package: str
    version: str
    requirements: str
    launcher: str
    options: List[str]
    key: str
    control_key: str
    engines: List[GatewayEngine]
    port: Optional[int]
    public: bool
    install: bool
    action: GatewayAction
    seconds: float


class NetworkRequest(TypedDict):
    """Ask for the addresses of this machine, or test the connection between two machines.

    `listen`: accept connections on these addresses, each on a port of its own, until stdin ends or `seconds` are over.
    `dial`: connect to these addresses and ports of another machine, and send data for `seconds` to each that is it.
    Both know the same `nonce`, which proves each to the other.
    """

    action: Literal["addresses", "listen", "dial"]
    addresses: List[str]
    ports: List[int]
    nonce: str
    seconds: float


Request = Union[
    StartRequest, AttachRequest, SurveyRequest, InspectRequest, StopRequest, HoldersRequest, LogsRequest, StoreRequest,
    PurgeRequest, LeaseRequest, CleanRequest, GatewayRequest, NetworkRequest, LaunchesRequest,
    BenchRequest,
]  # fmt: skip


# Events


class _Beat(TypedDict):
    event: Literal["beat"]


@final
class Beat(_Beat, total=False):
    """The agent is alive and has nothing else to report. One that waits on a held link reports that it is `kept`."""

    kept: str


@final
class Kept(TypedDict):
    """The program is on the pod, under this hash of 32 hexadecimal digits: it can be run without being sent."""

    event: Literal["kept"]
    hash: str


@final
class Placed(TypedDict):
    """A port and GPUs are reserved."""

    event: Literal["placed"]
    port: int
    gpu: str
    log: str


@final
class Fetched(TypedDict):
    """The model is on this pod, and vLLM is launched when a line follows on stdin: on all pods of a model at once.

    `commit` is that of the model, empty if it is not from the Hub.
    """

    event: Literal["fetched"]
    commit: str


@final
class Listening(TypedDict):
    """This machine accepts connections for a test, on a port of its own for each address of the request."""

    event: Literal["listening"]
    ports: List[int]


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


WarmUpState = Literal["began", "ready", "ended", "failed"]
NoWarmUp = Literal["warm", "argument", "quantised", "unknown-gpus", "busy-gpus", "memory", "disk"]


@final
class WarmUp(TypedDict):
    """vLLM began to compile during the download; it was `ready`, `ended` with the download, or `failed` by itself."""

    event: Literal["warm-up"]
    state: WarmUpState


@final
class NotWarmedUp(TypedDict):
    """vLLM does not compile during the download; `word` is the argument, or the method of quantisation."""

    event: Literal["no-warm-up"]
    why: NoWarmUp
    word: str


@final
class KvCacheKnown(TypedDict):
    """vLLM gets the size of the KV cache in bytes that a start has measured, `at` seconds since 1970."""

    event: Literal["kv-cache-known"]
    size: int
    at: float


@final
class KvCacheDropped(TypedDict):
    """vLLM has failed with that size, and is started once more without it."""

    event: Literal["kv-cache-dropped"]


Note = Union[
    WaitsForDownload, PartsDeleted, DownloadRestarted, DownloadStalled, WaitsForLock, HubSilent, FreeSpaceUnknown,
    LockElsewhere, DriverSlow, KvCacheKnown, KvCacheDropped, NotWarmedUp,
]  # fmt: skip
Event = Union[Beat, Kept, Placed, Fetched, Listening, Launched, Progress, Phase, LogText, WarmUp, Note]


# Results


class DeathEvidence(TypedDict):
    """What the machine knows about the death of a model; None for what cannot be read there.

    `kills` and `machine_kills` are the processes that the kernel has killed for lack of memory since the launch, of the
    model's cgroup and of the machine. `limit` is that of the cgroup, `least` are the bytes that were left at least, of
    the machine's `total`. `kernel` are lines of the kernel's log since the launch, `MaxKernelLines` at most.
    """

    kills: Optional[int]
    machine_kills: Optional[int]
    limit: Optional[int]
    least: Optional[int]
    total: Optional[int]
    is_log_readable: bool
    kernel: List[str]


class StartResult(TypedDict):
    """The end of a start that was followed: `exited` with `code` or by `signal`, or `healthy` after `took` seconds.

    `death` is set if it exited.
    """

    state: Literal["launched", "healthy", "exited"]
    record: Record
    took: Optional[float]
    code: Optional[int]
    signal: Optional[int]
    death: Optional[DeathEvidence]


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
    `uids` are those of the launches, and `peers` the pods of each that ran over several.
    """

    outcomes: List[Outcome]
    others: List[bool]
    uids: List[Optional[str]]
    peers: List[List[str]]
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


class Launch(TypedDict):
    """How a model was started, as in `Record`. `origins` is empty if an older pi did it; a folder has no `commit`."""

    uid: str
    name: str
    arguments: List[str]
    origins: List[Origin]
    variables: Dict[str, str]
    given: List[str]
    commit: Optional[str]
    vllm: Optional[str]


class Build(TypedDict):
    """A vLLM of the machine: what setup made it from (`release`, a requirement), its wheel, its version of torch.

    `files` is the SHA-256 of the list of the wheel's files.
    """

    version: str
    made_from: Optional[str]
    wheel: Optional[str]
    files: Optional[str]
    torch: Optional[str]


class Launches(TypedDict):
    """The launches of the models that run and have a record, and the builds, the default one first."""

    launches: List[Launch]
    builds: List[Build]


class PodStop(TypedDict):
    """Whether this pod can be stopped from inside: by which provider, and why not."""

    provider: Optional[StoppingProvider]
    trouble: str


class Leases(TypedDict):
    """The leases of the pod, the latest ends of models, and with `check` whether the pod can be stopped."""

    leases: List[LeaseReport]
    ends: List[LeaseEnd]
    pod_stop: Optional[PodStop]


class CleanedFolder(TypedDict):
    """A folder of compiled code that was deleted, with the size and the number of the files in it."""

    path: str
    bytes: int
    files: int


class CleanResult(TypedDict):
    """What was deleted."""

    folders: List[CleanedFolder]


GatewayState = Literal["running", "exited", "nothing"]


class GatewayWorker(TypedDict):
    """An engine that the gateway uses at `url`, or the `reason` why it does not."""

    id: str
    url: Optional[str]
    reason: Optional[str]


class GatewayResult(TypedDict):
    """Whether the balancer runs; `nothing`: it was not started, since no engine can be used."""

    state: GatewayState
    port: Optional[int]
    workers: List[GatewayWorker]


class Address(TypedDict):
    """An IPv4 address of the machine; `variable` is the variable of its first process that names it, if any."""

    address: str
    interface: str
    variable: str


class Link(TypedDict):
    """A tested connection: `rate` is in bits per second, None if it failed for `reason`."""

    address: str
    rate: Optional[float]
    reason: str


class NetworkResult(TypedDict):
    """The addresses of the machine, the first free port for the nodes to meet at, and what was tested.

    `simulated`: the addresses are those of an embedded pod.
    """

    addresses: List[Address]
    port: int
    links: List[Link]
    simulated: bool


BenchEnd = Literal["done", "failed", "not-ready", "no-text", "too-long"]


class Percentiles(TypedDict):
    """Percentiles of a time, in milliseconds; None if nothing was measured."""

    p50: Optional[float]
    p90: Optional[float]
    p99: Optional[float]


class BenchFigures(TypedDict):
    """What one level of a benchmark has measured. `duration` is in seconds, the rates are per second.

    Tokens of output and of input together are the `total_rate`. `ttft`: the time to the first token, `tpot`: the mean
    time of each further token of a request, `itl`: between two of them.
    """

    completed: int
    failed: int
    duration: float
    output_rate: float
    total_rate: float
    request_rate: float
    ttft: Percentiles
    tpot: Percentiles
    itl: Percentiles


class BenchResult(TypedDict):
    """What became of one level. Only if it is `done`, there are figures; if it `failed`, the end of the `output`.

    `no-text`: the model does not generate text; `too-long`: the request does not fit into its `context`, in tokens.
    """

    end: BenchEnd
    context: Optional[int]
    vllm: Optional[str]
    arguments: List[str]
    figures: Optional[BenchFigures]
    output: str


Result = Union[
    StartResult, Survey, Inspection, StopResult, Holders, LogsBegin, StoreResult, PurgeResult, Leases, CleanResult,
    GatewayResult, NetworkResult, Launches, BenchResult,
]  # fmt: skip


# Refusals

Code = Literal[
    "arguments", "name-taken", "gpus-taken", "no-port", "not-there", "stopped", "no-log", "bad-pattern", "not-set-up",
    "vllm-too-old", "not-mounted", "no-room-on-disk", "download", "hub-unreachable", "locked", "environment",
    "not-ours", "in-use", "cache-in-use", "os", "bug",
]  # fmt: skip


WrittenPlace = Literal["models", "xet", "temporary"]  # what hf writes to: the cache, Xet's cache, temporary files


class LookedDisk(TypedDict):
    """A folder that hf writes to: free bytes and inodes of its disk, None if they are not known or not counted.

    `trouble`: why a file of some megabytes could not be written there.
    """

    place: WrittenPlace
    path: str
    free: Optional[int]
    inodes: Optional[int]
    trouble: Optional[str]


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
    no-room-on-disk path, paths, frees, and free and lacking and total, or free and before; bytes. After hf has said so:
                    reason (its output), disks
    download        reason          the output of hf
    locked          path, seconds   another agent holds the lock
    environment     seconds         ~/.pi/env did not end
    hub-unreachable reason          the output of hf
    not-ours        path, name      ~/.pi, or its env, belongs to this user
    in-use          names, path     these models run; or a setup or a download holds the file
    cache-in-use    names           these models are starting with what is compiled
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
    disks: List[LookedDisk]


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
    Beat, Kept, Placed, Fetched, Listening, Launched, Progress, Phase, LogText, WaitsForDownload, PartsDeleted,
    DownloadRestarted, DownloadStalled, WaitsForLock, HubSilent, FreeSpaceUnknown, LockElsewhere, DriverSlow,
    KvCacheKnown, KvCacheDropped, NotWarmedUp, WarmUp, ResultReply, RefusalReply,
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

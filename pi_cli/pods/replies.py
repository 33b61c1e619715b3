"""The replies of the agent on a pod as the checked types of `pods.reports`: one function for each kind of reply.

A wrong or missing value raises `InvalidValue`, `KeyError` or `TypeError`, of which `pods.agent` makes `NotUnderstood`;
unknown keys are ignored. No other module reads the dictionaries of the protocol (`remote/agent/protocol.py`).
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import TYPE_CHECKING, Any, Literal, cast

from pi_cli.diagnosis.death_evidence import DeathEvidence
from pi_cli.pods import checks, wording
from pi_cli.pods.checks import InvalidValue
from pi_cli.pods.reports import (
    Address,
    BenchReply,
    Build,
    CleanedFolder,
    CudaAnswer,
    DeadModel,
    Disk,
    Downloaded,
    Fetched,
    GatewayEnd,
    GpuLoad,
    Holders,
    Inspection,
    KeptPlace,
    Launch,
    Launched,
    Launches,
    Lease,
    LeaseEnd,
    Leases,
    Link,
    Listening,
    LogChange,
    Logged,
    Metrics,
    Network,
    PhaseEntered,
    Placed,
    Purge,
    PurgedPart,
    Remark,
    RunningModel,
    StartEnd,
    StartEvent,
    StopResult,
    StoredFiles,
    Survey,
    UnreadableRecord,
    VllmFile,
    WarmedUp,
)
from pi_cli.pods.wording import LookedDisk, Refusal
from pi_cli.safe import Sanitizer, safe
from pi_cli.store.benchmarks import Level, Percentiles
from pi_cli.store.records import is_name

if TYPE_CHECKING:
    from agent import protocol

MAX_LOG_END: protocol.MaxLogEnd = 65536
MAX_ABILITIES: protocol.MaxAbilities = 1048576
STATUSES: tuple[protocol.Status, ...] = ("starting", "ready", "stalled", "unhealthy", "orphaned")
DRIVERS: tuple[protocol.Driver, ...] = ("answers", "fails", "hangs", "missing")
OUTCOMES: tuple[protocol.Outcome, ...] = ("stopped", "killed", "gone", "stuck")
CODES: tuple[protocol.Code, ...] = (
    "arguments", "name-taken", "gpus-taken", "no-port", "not-there", "stopped", "no-log", "bad-pattern", "not-set-up",
    "vllm-too-old", "not-mounted", "no-room-on-disk", "download", "hub-unreachable", "locked", "environment",
    "not-ours", "in-use", "cache-in-use", "os", "bug",
)  # fmt: skip
UNSET: protocol.Refusal = {  # the keys of a refusal that its code does not need
    "name": "", "names": [], "options": [], "port": 0, "program": "", "path": "", "paths": [], "reason": "", "errno": 0,
    "seconds": 0, "free": None, "before": None, "lacking": None, "total": None, "frees": 0,
    "disks": [],
}  # fmt: skip
CUDA_PROBLEMS: tuple[protocol.CudaProblem, ...] = (
    "", "error", "no-library", "hidden-library", "broken-library", "stub-library", "lost-gpus", "hangs", "crashed",
    "unasked",
)  # fmt: skip
LEASE_PHASES: tuple[protocol.LeasePhase, ...] = (
    "loading", "busy", "idle", "silent", "died", "ending", "stuck", "stopping-pod",
)  # fmt: skip
LEASE_WHY: tuple[protocol.LeaseWhy, ...] = ("idle", "load", "died")
LEASE_PODS: tuple[protocol.LeasePod, ...] = ("billed", "kept", "asked", "stopped", "failed")
WATCHERS: tuple[protocol.Watcher, ...] = ("lives", "revived", "dead")
THEN: tuple[protocol.Then, ...] = ("stop-pod",)
STOPPING: tuple[protocol.StoppingProvider, ...] = ("runpod", "vast")
BENCH_ENDS: tuple[protocol.BenchEnd, ...] = ("done", "failed", "not-ready", "no-text", "too-long")
MAX_MOMENT = 4_102_444_800.0  # the year 2100
MAX_BENCH_OUTPUT = 4000  # characters
MAX_BENCH_ARGUMENTS = 500
MAX_KERNEL_LINES: protocol.MaxKernelLines = 5
MAX_CUDA_ERROR = 99_999  # and the largest version, 13000 for 13.0
MAX_GPUS = 1024
MAX_ADDRESSES = 16
ROLES: tuple[protocol.Role, ...] = ("head", "node")
ORIGINS: tuple[protocol.Origin, ...] = ("catalogue", "planned", "file", "command", "pi", "lock")
MAX_DISKS = 8
PLACES: tuple[protocol.WrittenPlace, ...] = ("models", "xet", "temporary")
MAX_FILES = 4  # that are named
# What pi proposes to delete: a model in the Hub's cache, or a part of a download. A pod may say any path.
IN_CACHE = re.compile(r"models--[^/]+(/blobs/[^/.][^/]*)?")
PURGED: tuple[protocol.PurgedKind, ...] = ("vllm", "uv", "models", "logs", "records", "state")
KEPT: tuple[protocol.KeptReason, ...] = ("not-made-by-setup", "other-machine", "maybe-yours", "own-lines", "models")
KINDS: tuple[protocol.RecordKind, ...] = ("model", "gateway", "lease")
GATEWAY_STATES: tuple[protocol.GatewayState, ...] = ("running", "exited", "nothing")
WARM_UPS: tuple[protocol.WarmUpState, ...] = ("began", "ready", "ended", "failed")
NO_WARM_UPS: tuple[protocol.NoWarmUp, ...] = (
    "warm", "argument", "quantised", "unknown-gpus", "busy-gpus", "memory", "disk",
)  # fmt: skip
STATES: tuple[Literal["launched", "healthy", "exited"], ...] = ("launched", "healthy", "exited")
CHANGES: tuple[Literal["begins", "grown", "rotated", "truncated", "lost", "restarted", "ended", "too-slow"], ...] = (
    "begins", "grown", "rotated", "truncated", "lost", "restarted", "ended", "too-slow",
)  # fmt: skip


def survey(result: object) -> Survey:
    """Return which models run on a pod, and which have died."""
    reply = cast("protocol.Survey", result)
    return Survey(
        models=_models(reply["models"]),
        dead=checks.each(_death, reply["dead"]),
        unreadable=checks.each(_unreadable, reply["unreadable"]),
        elsewhere=dict(checks.each(_elsewhere, reply["elsewhere"])),
        refused_lock=checks.optional(checks.line, reply["refused_lock"]),
        driver_hangs=checks.flag(reply["driver_hangs"]),
        gpus=checks.each(_gpu_load, reply["gpus"])[:MAX_GPUS],
    )


def _models(replies: object) -> list[RunningModel]:
    """Return the models of an answer; of several with the same name, the first."""
    models = checks.each(_model, replies)
    return list({model.name: model for model in reversed(models)}.values())[::-1]


def _model(reply: protocol.ModelReport) -> RunningModel:
    return RunningModel(
        name=checks.model_name(reply["name"]),
        uid=checks.optional(checks.uid, reply["uid"]),
        model=checks.line(reply["model"]),
        port=checks.port(reply["port"]),
        gpu=checks.gpu_ids(reply["gpu"]),
        pid=checks.pid(reply["pid"]),
        memory=checks.optional(checks.share, reply["memory"]),
        is_private=checks.flag(reply["private"]),
        status=checks.one_of(reply["status"], STATUSES),
        age=checks.optional(checks.number, reply["age"]),
        phase=checks.optional(checks.line, reply["phase"]),
        progress=checks.optional(_progress, reply["progress"]),
        requests=checks.optional(_pair, reply["requests"]),
        metrics=checks.optional(_metrics, reply["metrics"]),
        idle=checks.optional(checks.amount, reply["idle"]),
        memory_used=checks.optional(_pair, reply["memory_used"]),
        listens=checks.flag(reply["listens"]),
        proof_keys=frozenset(checks.each(checks.proof_key, reply["proof_keys"])),
        lease=checks.optional(_lease, reply["lease"]),
        kind=checks.one_of(reply["kind"], KINDS),
        role=checks.optional(_role, reply["role"]),
        peers=_peers(reply["peers"]),
    )


def _progress(values: object) -> tuple[int, int | None]:
    done, total = checks.pair(lambda value: checks.optional(checks.whole, value), values)
    return done or 0, total


def _pair(values: object) -> tuple[int, int]:
    return checks.pair(checks.whole, values)


def _metrics(reply: object) -> Metrics:
    metrics = cast("protocol.Metrics", reply)
    return Metrics(
        at=checks.number(metrics["at"]),
        running=checks.optional(checks.amount, metrics["running"]),
        waiting=checks.optional(checks.amount, metrics["waiting"]),
        prompt_tokens=checks.optional(checks.amount, metrics["prompt_tokens"]),
        generation_tokens=checks.optional(checks.amount, metrics["generation_tokens"]),
        kv_cache=checks.optional(checks.amount, metrics["kv_cache"]),
        first_token_seconds=checks.optional(checks.amount, metrics["first_token_seconds"]),
        first_tokens=checks.optional(checks.amount, metrics["first_tokens"]),
    )


def _gpu_load(reply: object) -> GpuLoad:
    gpu = cast("protocol.GpuLoad", reply)
    return GpuLoad(
        id=checks.whole(gpu["id"], maximum=MAX_GPUS),
        name=checks.line(gpu["name"]),
        memory=checks.optional(_pair, gpu["memory"]),
        utilization=checks.optional(checks.amount, gpu["utilization"]),
        power=checks.optional(checks.amount, gpu["power"]),
        power_limit=checks.optional(checks.amount, gpu["power_limit"]),
        temperature=checks.optional(checks.amount, gpu["temperature"]),
        has_slices=checks.flag(gpu["mig"]),
    )


def _death(reply: protocol.Death) -> DeadModel:
    return DeadModel(
        name=checks.model_name(reply["name"]),
        log=checks.line(reply["log"]),
        was_recorded=checks.flag(reply["was_recorded"]),
        was_rebooted=checks.flag(reply["rebooted"]),
        log_end=safe(
            _unpacked(checks.string(reply["log_end"]), MAX_LOG_END, "a packed log").decode("utf-8", "replace")
        ),
        lease_end=checks.optional(_lease_end, reply["lease_end"]),
    )


def _unreadable(reply: protocol.Unreadable) -> UnreadableRecord:
    return UnreadableRecord(checks.line(reply["file"]), checks.line(reply["reason"]))


def _elsewhere(reply: protocol.Elsewhere) -> tuple[str, str]:
    return checks.model_name(reply["name"]), checks.line(reply["machine"])


def inspection(result: object) -> Inspection:
    """Return the GPUs, disks, vLLM versions and models of a machine."""
    reply = cast("protocol.Inspection", result)
    return Inspection(
        gpus=checks.text(reply["gpus"]),
        slices=checks.text(reply["slices"]),
        trouble=checks.optional(checks.line, reply["trouble"]),
        driver=checks.one_of(reply["driver"], DRIVERS),
        home=_disk(reply["home"]),
        place=checks.optional(_disk, reply["place"]),
        storage=checks.optional(_disk, reply["storage"]),
        vllm=checks.optional(checks.line, reply["vllm"]),
        versions=checks.each(checks.line, reply["versions"]),
        abilities=checks.each(_vllm_file, reply["abilities"]),
        provider=checks.optional(checks.line, reply["provider"]),
        boot=checks.line(reply["boot"]),
        models=_models(reply["models"] or []),
        cuda=checks.optional(_cuda, reply["cuda"]),
    )


def _disk(reply: object) -> Disk:
    disk = cast("protocol.Disk", reply)
    return Disk(
        path=checks.line(disk["path"]),
        total=checks.optional(checks.whole, disk["total"]),
        free=checks.optional(checks.whole, disk["free"]),
        is_mount=checks.flag(disk["is_mount"]),
        kind=checks.line(disk["kind"]),
        trouble=checks.optional(checks.line, disk["trouble"]),
    )


def _vllm_file(reply: protocol.Abilities) -> VllmFile:
    digest = checks.digest(reply["digest"])
    packed = checks.string(reply["packed"])
    content = _unpacked(packed, MAX_ABILITIES, "a packed file")
    checks.whole(reply["size"], maximum=MAX_ABILITIES)
    import hashlib  # it loads OpenSSL, and few commands get such a reply

    if packed and hashlib.sha256(content).hexdigest() != digest:
        raise InvalidValue(digest, "the digest of the content")
    return VllmFile(
        version=checks.optional(checks.line, reply["version"]),
        is_default=checks.flag(reply["is_default"]),
        digest=digest,
        text=content.decode("utf-8", "replace") if packed else None,
    )


def _unpacked(packed: str, most: int, expected: str) -> bytes:
    """Decompress what an agent packed, but no more than it may send."""
    try:
        return zlib.decompressobj().decompress(base64.b64decode(packed, validate=True), most) if packed else b""
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InvalidValue(packed, expected) from error


def _cuda(reply: object) -> CudaAnswer:
    answer = cast("protocol.CudaAnswer", reply)
    return CudaAnswer(
        problem=checks.one_of(answer["problem"], CUDA_PROBLEMS),
        code=checks.whole(answer["code"], -1, MAX_CUDA_ERROR),
        reason=checks.line(answer["reason"]),
        gpus=checks.each(_gpu_with_error, answer["gpus"]),
        count=checks.whole(answer["count"], maximum=MAX_GPUS),
        expected=checks.whole(answer["expected"], maximum=MAX_GPUS),
        version=checks.whole(answer["version"], maximum=MAX_CUDA_ERROR),
        library=checks.line(answer["library"]),
        driver=checks.line(answer["driver"]),
        entry=checks.line(answer["entry"]),
        lacking=checks.each(checks.line, answer["lacking"])[:MAX_FILES],
        denied=checks.each(checks.line, answer["denied"])[:MAX_FILES],
        simulated=checks.flag(answer["simulated"]),
    )


def _gpu_with_error(values: object) -> tuple[int, int]:
    gpu, code = checks.pair(lambda value: checks.whole(value, -1, MAX_CUDA_ERROR), values)
    return checks.whole(gpu, maximum=MAX_GPUS), code


def holders(result: object, questions: int) -> Holders:
    """Return the processes that hold GPU memory: the output of each of so many questions, and which PIDs are ours."""
    reply = cast("protocol.Holders", result)
    outputs = checks.each(checks.text, reply["outputs"])
    if len(outputs) != questions:
        raise InvalidValue(len(outputs), f"the number of questions, {questions}")
    return Holders(outputs, checks.each(checks.pid, reply["ours"]))


def stop_result(result: object, models: int) -> StopResult:
    """Return what became of so many models that were to be stopped."""
    reply = cast("protocol.StopResult", result)
    outcomes = checks.each(lambda outcome: checks.one_of(outcome, OUTCOMES), reply["outcomes"])
    if len(outcomes) != models:
        raise InvalidValue(len(outcomes), f"the number of models, {models}")
    others = checks.each(checks.flag, reply["others"])
    uids = checks.each(lambda uid: checks.optional(checks.uid, uid), reply["uids"])
    freed = checks.optional(checks.whole, reply["freed"])
    return StopResult(outcomes, others, freed, uids, checks.each(_peers, reply["peers"]))


def start_end(result: object) -> StartEnd:
    """Return the state of a model whose start was followed."""
    reply = cast("protocol.StartResult", result)
    record = reply["record"]
    model = RunningModel(
        name=checks.model_name(record["name"]),
        uid=checks.uid(record["uid"]),
        model=checks.line(record["model"]),
        port=checks.port(record["port"]),
        gpu=checks.gpu_ids(record["gpu"]),
        pid=checks.pid(record["pid"]),
        memory=checks.optional(checks.share, record["memory"]),
        is_private=checks.flag(record["private"]),
        status="ready" if reply["state"] == "healthy" else "starting",
        role=checks.optional(_role, record.get("role")),
        peers=_peers(record.get("peers", [])),
    )
    return StartEnd(
        state=checks.one_of(reply["state"], STATES),
        model=model,
        took=checks.optional(checks.number, reply["took"]),
        code=checks.optional(checks.whole, reply["code"]),
        signal=checks.optional(checks.whole, reply["signal"]),
        death=checks.optional(_death_evidence, reply["death"]),
    )


def _role(value: Any) -> protocol.Role:
    return checks.one_of(value, ROLES)


def _peers(values: object) -> tuple[str, ...]:
    """Return the pods of a model over several, without names that pi does not allow."""
    return tuple(name for name in checks.each(checks.line, values) if is_name(name))


def _death_evidence(reply: object) -> DeathEvidence:
    evidence = cast("protocol.DeathEvidence", reply)
    return DeathEvidence(
        kills=checks.optional(checks.whole, evidence["kills"]),
        machine_kills=checks.optional(checks.whole, evidence["machine_kills"]),
        limit=checks.optional(checks.whole, evidence["limit"]),
        least=checks.optional(checks.whole, evidence["least"]),
        total=checks.optional(checks.whole, evidence["total"]),
        is_log_readable=checks.flag(evidence["is_log_readable"]),
        kernel=tuple(checks.each(checks.line, evidence["kernel"])[:MAX_KERNEL_LINES]),
    )


def stored_files(result: object, request: protocol.StoreRequest) -> StoredFiles:
    """Return where the files of a request are, or would be, on a pod."""
    reply = cast("protocol.StoreResult", result)
    folder = checks.line(reply["folder"])
    if not folder.startswith("/") or not folder.endswith(f"/.pi/uploads/{request['digest']}"):
        raise InvalidValue(folder, "the folder of these files")
    return StoredFiles(folder, checks.flag(reply["is_stored"]))


def purge(result: object) -> Purge:
    """Return what pi has put on a machine."""
    reply = cast("protocol.PurgeResult", result)
    return Purge(
        parts=checks.each(_purged_part, reply["parts"]),
        kept=checks.each(_kept_place, reply["kept"]),
        shared_models=checks.flag(reply["shared_models"]),
    )


def _purged_part(part: protocol.PurgedPart) -> PurgedPart:
    kind, size = checks.one_of(part["kind"], PURGED), checks.whole(part["bytes"])
    return PurgedPart(kind, checks.line(part["path"]), size, checks.whole(part["files"]))


def _kept_place(place: protocol.KeptPlace) -> KeptPlace:
    return KeptPlace(checks.line(place["path"]), checks.one_of(place["reason"], KEPT))


def leases(result: object) -> Leases:
    """Return the leases of a pod, those that have ended, and whether its provider would stop it."""
    reply = cast("protocol.Leases", result)
    stopping = reply["pod_stop"]
    provider = None if stopping is None else checks.optional(_provider, stopping["provider"])
    trouble = "" if stopping is None else checks.line(stopping["trouble"])
    return Leases(checks.each(_lease, reply["leases"]), checks.each(_lease_end, reply["ends"]), provider, trouble)


def _provider(value: object) -> protocol.StoppingProvider:
    return checks.one_of(cast("protocol.StoppingProvider", value), STOPPING)


def _lease(value: object) -> Lease:
    reply = cast("protocol.LeaseReport", value)
    return Lease(
        uid=checks.uid(reply["uid"]),
        name=checks.model_name(reply["name"]),
        seconds=checks.amount(reply["seconds"]),
        left=checks.optional(checks.amount, reply["left"]),
        phase=checks.one_of(reply["phase"], LEASE_PHASES),
        phase_seconds=checks.amount(reply["phase_seconds"]),
        then=checks.optional(_then, reply["then"]),
        watcher=checks.one_of(reply["watcher"], WATCHERS),
    )


def _then(value: object) -> protocol.Then:
    return checks.one_of(cast("protocol.Then", value), THEN)


def _lease_end(value: object) -> LeaseEnd:
    reply = cast("protocol.LeaseEnd", value)
    return LeaseEnd(
        at=_moment(reply["at"]),
        uid=checks.uid(reply["uid"]),
        name=checks.model_name(reply["name"]),
        why=checks.one_of(reply["why"], LEASE_WHY),
        idle=checks.amount(reply["idle"]),
        outcome=checks.line(reply["outcome"]),
        freed=checks.optional(checks.whole, reply["freed"]),
        pod=checks.one_of(reply["pod"], LEASE_PODS),
        reason=checks.line(reply["reason"]),
        others=tuple(checks.each(checks.model_name, reply["others"])),
        off=checks.amount(reply["off"]),
    )


def _moment(value: object) -> float:
    """Return seconds since 1970 that are a date."""
    moment = checks.amount(value)
    if moment > MAX_MOMENT:
        raise InvalidValue(value, "a date")
    return moment


def cleaned_folders(result: object) -> list[CleanedFolder]:
    """Return what was deleted of what had been compiled for a model."""
    reply = cast("protocol.CleanResult", result)
    return checks.each(_cleaned_folder, reply["folders"])


def _cleaned_folder(folder: protocol.CleanedFolder) -> CleanedFolder:
    return CleanedFolder(checks.line(folder["path"]), checks.whole(folder["bytes"]), checks.whole(folder["files"]))


def gateway_end(result: object, request: protocol.GatewayRequest) -> GatewayEnd:
    """Return the state of a gateway's balancer, and which engines of the request it uses."""
    reply = cast("protocol.GatewayResult", result)
    ids = {engine["id"] for engine in request["engines"]}
    workers = [each for each in checks.each(_worker, reply["workers"]) if each[0] in ids]
    return GatewayEnd(
        state=checks.one_of(reply["state"], GATEWAY_STATES),
        port=checks.optional(checks.port, reply["port"]),
        workers={id: url for id, url, _ in workers if url},
        refused={id: reason or "" for id, url, reason in workers if not url},
    )


def _worker(worker: protocol.GatewayWorker) -> tuple[str, str | None, str | None]:
    url, reason = checks.optional(checks.line, worker["url"]), checks.optional(checks.line, worker["reason"])
    return checks.line(worker["id"]), url, reason


def launches(result: object) -> Launches:
    """Return how the models of a pod were started, and what its vLLMs were installed from."""
    reply = cast("protocol.Launches", result)
    return Launches(checks.each(_launch, reply["launches"]), checks.each(_build, reply["builds"]))


def _launch(reply: protocol.Launch) -> Launch:
    arguments = tuple(checks.each(checks.string, reply["arguments"]))
    origins = tuple(checks.each(lambda origin: checks.one_of(origin, ORIGINS), reply["origins"]))
    if origins and len(origins) != len(arguments):
        raise InvalidValue(len(origins), f"the number of arguments, {len(arguments)}")
    return Launch(
        uid=checks.uid(reply["uid"]),
        name=checks.model_name(reply["name"]),
        arguments=arguments,
        origins=origins,
        variables=checks.texts(reply["variables"]),
        given=tuple(checks.each(checks.line, reply["given"])),
        commit=checks.optional(checks.commit, reply["commit"]),
        vllm=checks.optional(checks.line, reply["vllm"]),
    )


def _build(reply: protocol.Build) -> Build:
    return Build(
        version=checks.line(reply["version"]),
        made_from=checks.optional(checks.line, reply["made_from"]),
        wheel=checks.optional(checks.line, reply["wheel"]),
        files=checks.optional(checks.digest, reply["files"]),
        torch=checks.optional(checks.line, reply["torch"]),
    )


def bench_reply(result: object, request: protocol.BenchRequest) -> BenchReply:
    """Return the figures of a level of vLLM's benchmark, or why there are none."""
    reply = cast("protocol.BenchResult", result)
    figures = reply["figures"]
    return BenchReply(
        end=checks.one_of(reply["end"], BENCH_ENDS),
        context=checks.optional(checks.whole, reply["context"]),
        vllm=checks.optional(checks.line, reply["vllm"]),
        arguments=checks.each(checks.line, reply["arguments"])[:MAX_BENCH_ARGUMENTS],
        level=None if figures is None else _bench_level(figures, request),
        output=checks.text(reply["output"])[-MAX_BENCH_OUTPUT:],
    )


def _bench_level(figures: protocol.BenchFigures, request: protocol.BenchRequest) -> Level:
    return Level(
        streams=request["streams"],
        prompts=request["prompts"],
        completed=checks.whole(figures["completed"]),
        failed=checks.whole(figures["failed"]),
        seconds=checks.amount(figures["duration"]),
        output_rate=checks.amount(figures["output_rate"]),
        total_rate=checks.amount(figures["total_rate"]),
        request_rate=checks.amount(figures["request_rate"]),
        ttft=_percentiles(figures["ttft"]),
        tpot=_percentiles(figures["tpot"]),
        itl=_percentiles(figures["itl"]),
    )


def _percentiles(reply: protocol.Percentiles) -> Percentiles:
    p50, p90, p99 = (checks.optional(checks.amount, value) for value in (reply["p50"], reply["p90"], reply["p99"]))
    return p50, p90, p99


def network(result: object) -> Network:
    """Return the addresses of a pod, and its connections to another one."""
    reply = cast("protocol.NetworkResult", result)
    return Network(
        addresses=checks.each(_address, reply["addresses"])[:MAX_ADDRESSES],
        port=checks.port(reply["port"]),
        links=checks.each(_link, reply["links"])[:MAX_ADDRESSES],
        is_simulated=checks.flag(reply["simulated"]),
    )


def _address(reply: protocol.Address) -> Address:
    address, interface = checks.address(reply["address"]), checks.interface(reply["interface"])
    return Address(address, interface, checks.line(reply["variable"]))


def _link(reply: protocol.Link) -> Link:
    rate = checks.optional(checks.amount, reply["rate"])
    return Link(checks.address(reply["address"]), rate, checks.line(reply["reason"]))


def refusal(value: object) -> Refusal:
    """Return why an agent did not do what it was asked."""
    if not isinstance(value, dict):
        raise InvalidValue(value, "a refusal")
    reply = cast("protocol.Refusal", {**UNSET, **value})
    folder = checks.line(reply["path"])
    prefix = folder.rstrip("/") + "/"
    paths = checks.each(checks.line, reply["paths"])
    return Refusal(
        code=checks.one_of(reply["code"], CODES),
        name=checks.line(reply["name"]),
        names=tuple(checks.each(checks.line, reply["names"])),
        options=tuple(checks.each(checks.line, reply["options"])),
        port=checks.whole(reply["port"]),
        program=checks.line(reply["program"]),
        path=folder,
        paths=tuple(path for path in paths if path.startswith(prefix) and IN_CACHE.fullmatch(path[len(prefix) :])),
        reason=checks.text(reply["reason"]),
        errno=checks.whole(reply["errno"]),
        seconds=checks.number(reply["seconds"]),
        free=checks.optional(checks.whole, reply["free"]),
        before=checks.optional(checks.whole, reply["before"]),
        lacking=checks.optional(checks.whole, reply["lacking"]),
        total=checks.optional(checks.whole, reply["total"]),
        frees=checks.whole(reply["frees"]),
        disks=tuple(checks.each(_looked_disk, reply["disks"])[:MAX_DISKS]),
    )


def _looked_disk(reply: object) -> LookedDisk:
    disk = cast("protocol.LookedDisk", reply)
    return LookedDisk(
        place=checks.one_of(disk["place"], PLACES),
        path=checks.line(disk["path"]),
        free=checks.optional(checks.whole, disk["free"]),
        inodes=checks.optional(lambda value: checks.whole(value, maximum=1 << 63), disk["inodes"]),
        trouble=checks.optional(checks.line, disk["trouble"]),
    )


def event(event: protocol.Event, log: Sanitizer) -> StartEvent:
    """Return an event of a start; the sanitizer has seen the log so far."""
    match event["event"]:
        case "log":
            return Logged(log.feed(checks.string(event["text"])))
        case "progress":
            by = wording.downloader(_downloader(event["by"])) if event["by"] else ""
            total = checks.optional(checks.whole, event["total"])
            return Downloaded(checks.whole(event["done"]), total, by)
        case "phase":
            return PhaseEntered(checks.line(event["text"]), checks.optional(checks.number, event["at"]))
        case "placed":
            return Placed(checks.port(event["port"]), checks.gpu_ids(event["gpu"]), checks.line(event["log"]))
        case "fetched":
            return Fetched(checks.line(event["commit"]))
        case "listening":
            return Listening(checks.each(checks.port, event["ports"])[:MAX_ADDRESSES])
        case "warm-up":
            return WarmedUp(checks.one_of(event["state"], WARM_UPS))
        case "launched":
            return Launched(checks.pid(event["pid"]))
        case "beat" | "kept":
            raise InvalidValue(event["event"], "an event of a start")
        case _:
            return Remark(_remark(event))


def _remark(event: protocol.Note) -> str:
    """Check the values of a note, and return its text."""
    match event["event"]:
        case "waits-for-download":
            return wording.remark({"event": "waits-for-download", "by": _downloader(event["by"])})
        case "parts-deleted":
            files, size = checks.whole(event["files"]), checks.whole(event["bytes"])
            return wording.remark({"event": "parts-deleted", "files": files, "bytes": size})
        case "download-restarted":
            seconds, without_xet = checks.number(event["seconds"]), checks.flag(event["without_xet"])
            return wording.remark({"event": "download-restarted", "seconds": seconds, "without_xet": without_xet})
        case "download-stalled":
            return wording.remark({"event": "download-stalled", "seconds": checks.number(event["seconds"])})
        case "waits-for-lock":
            path, pid = checks.line(event["path"]), checks.optional(checks.pid, event["pid"])
            return wording.remark({"event": "waits-for-lock", "path": path, "pid": pid})
        case "hub-silent":
            return wording.remark({"event": "hub-silent"})
        case "free-space-unknown":
            return wording.remark({"event": "free-space-unknown", "path": checks.line(event["path"])})
        case "lock-elsewhere":
            return wording.remark({"event": "lock-elsewhere", "path": checks.line(event["path"])})
        case "driver-slow":
            seconds, limit = checks.number(event["seconds"]), checks.number(event["limit"])
            return wording.remark({"event": "driver-slow", "seconds": seconds, "limit": limit})
        case "kv-cache-known":
            size, at = checks.whole(event["size"]), _moment(event["at"])
            return wording.remark({"event": "kv-cache-known", "size": size, "at": at})
        case "no-warm-up":
            why, word = checks.one_of(event["why"], NO_WARM_UPS), checks.line(event["word"])
            return wording.remark({"event": "no-warm-up", "why": why, "word": word})
        case "kv-cache-dropped":
            return wording.remark({"event": "kv-cache-dropped"})
        case _:
            raise InvalidValue(event["event"], "an event that pi knows")


def _downloader(reply: protocol.Downloader) -> protocol.Downloader:
    return {"is_here": checks.flag(reply["is_here"]), "pod": checks.optional(checks.line, reply["pod"])}


def log_change(message: dict[str, Any], offset: int) -> LogChange:
    """Return a change of a log that is being read, at this offset."""
    change = cast("protocol.LogEvent", message)
    event = checks.one_of(change["event"], CHANGES)
    file = change["file"]
    position: protocol.LogPosition = {
        "inode": checks.whole(file["inode"]),
        "length": checks.whole(file["length"]),
        "sum": checks.whole(file["sum"]),
        "offset": offset,
    }
    uid = checks.optional(checks.uid, change["uid"])
    if event != "begins":
        return LogChange(event, uid, position)
    begins = cast("protocol.LogBegins", message)
    is_new, is_alive, exists = (checks.flag(value) for value in (begins["is_new"], begins["alive"], begins["exists"]))
    return LogChange(event, uid, position, is_new, is_alive, exists)

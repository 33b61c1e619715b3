"""Report which models run on the pod, their status, and which have died."""

import binascii
import contextlib
import os
import time
import zlib
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set, Tuple

from agent import answers, gpus, home, idle, metrics, orphans, phases, ports, processes, records, stalls, wire
from agent.machine import LOGS
from agent.processes import Process

if TYPE_CHECKING:
    from agent import protocol

MAX_LOG_END: "protocol.MaxLogEnd" = 65536
LONGEST = 20.0  # seconds for a report: its server has six, the rest is for a slow disk
MAX_LOG_ENDS: "protocol.MaxLogEnds" = 1048576


class Running(NamedTuple):
    """A running model and its processes. One that was entered into `pods.json` by hand has no record.

    `repository` is what a model serves whose record is gone.
    """

    model: "protocol.KnownModel"
    record: "Optional[protocol.Record]"
    processes: List[Process]
    repository: Optional[str] = None

    @property
    def pids(self) -> List[int]:
        return [process.pid for process in self.processes]


class Gone(NamedTuple):
    """A model that no longer runs; without a record, another client stopped it."""

    model: "protocol.KnownModel"
    record: "Optional[protocol.Record]"


def survey(
    known: "List[protocol.KnownModel]",
    *,
    forget: bool,
    memory: bool = False,
    live: bool = False,
    leased: bool = False,
) -> "protocol.Survey":
    """Return the models that run, with their status, and those of the records and of `known` that no longer do.

    With `forget`, for a list of models, delete the records of dead ones. With `memory`, ask for the memory of the GPUs:
    a command that does not show it should not wait for a slow driver. With `live`, do that, and also return the load
    of the GPUs and of the models, but not the ends of logs. With `leased`, return the leases of models too.
    """
    if leased:
        from agent import lease_ends, lease_watchers  # not sent for inspections

    with records.locked(required=False) as refused:
        marked = processes.marked()
        recorded, others, skipped = records.look()
        revived = lease_watchers.revive() if leased and forget else []
        living = [record for record in recorded if records.lives(record, marked)]
        dead = [record for record in recorded if record not in living]
        for record in dead if forget else []:
            with contextlib.suppress(OSError):  # on a read-only disk, the model is reported again the next time
                records.forget(record["uid"])
    running = [Running(records.known_as(record), record, marked.get(record["uid"], [])) for record in living]
    by_hand = {model["pid"] for model in known if model["uid"] is None}
    for model, repository in orphans.find(marked, {record["uid"] for record in living}):
        group = marked[str(model["uid"])]
        if not by_hand & {process.pid for process in group}:
            running.append(Running(model, None, group, repository))
    running += unmarked(known, {str(model.model["uid"]) for model in running})
    models, held = described(running, live, memory or live) if running or live else ([], gpus.NOT_ASKED)
    for model_report in models if leased else ():
        model_report["lease"] = lease_watchers.report_of(model_report["uid"], revived)
    gone = [Gone(records.known_as(record), record) for record in dead]
    uids = {record["uid"] for record in [*recorded, *others]}
    listed = {model["uid"] for model in known}
    others = [record for record in others if record["uid"] in listed]
    # Without the machine in its record, a model may run on another one: it does not run here, but its record stays.
    gone += [Gone(records.known_as(record), record) for record in others if not record["machine"]]
    gone += [Gone(model, None) for model in known if model["uid"] not in uids]
    names = {model["name"] for model in models}
    lost = {entry.model["name"]: entry for entry in gone if entry.model["pid"] and entry.model["name"] not in names}
    ends = lease_ends.by_uid() if leased and lost else {}
    return {
        "models": models,
        "dead": deaths(list(lost.values()), 0 if live else int(MAX_LOG_ENDS), ends),
        "unreadable": skipped,
        "elsewhere": [
            {"name": record["name"], "machine": record["machine"]}
            for record in others
            if record["machine"] and record["name"] not in names
        ],
        "refused_lock": refused or None,
        "driver_hangs": held.driver == "hangs",
        "gpus": held.loads,
    }


def unmarked(known: "List[protocol.KnownModel]", uids: Set[str]) -> List[Running]:
    """Return the models of pi's list that run without a record: the user started and entered them by hand."""
    running = {}
    for model in known:
        if model["uid"] not in uids:
            alive = processes.find_unmarked(model)
            if alive:
                running[model["name"]] = Running(model, None, alive)
    return list(running.values())


def described(
    running: List[Running], live: bool, with_memory: bool
) -> "Tuple[List[protocol.ModelReport], gpus.Memory]":
    """Return reports on all models, and the memory of the GPUs, which they lack if the driver hangs. All is queried in
    parallel."""
    from concurrent import futures  # not loaded on pods without models

    with futures.ThreadPoolExecutor(64) as pool:  # for servers that accept a connection and say nothing
        with_memory = with_memory and (live or any(model.model["gpu"] for model in running))
        memory = pool.submit(gpus.memory, live) if with_memory else None
        listening = ports.listening_sockets()  # once for all models: the kernel takes 7 ms
        pending = [pool.submit(describe, model, listening, live) for model in running]
        left, moved_at = len(pending), time.monotonic()
        while len(still := futures.wait(pending, timeout=1.0).not_done):
            if len(still) < left:
                left, moved_at = len(still), time.monotonic()
            if time.monotonic() - moved_at < LONGEST:
                wire.beat()
            elif wire.is_alone(0):
                wire.leave()  # a thread hangs, for example in the file of a share that does not answer
        reports = [future.result() for future in pending]
        held = memory.result() if memory else gpus.NOT_ASKED
    for report in reports:
        report["memory_used"] = held_by(report, held.sizes)
    return reports, held


def describe(running: Running, listening: Dict[int, Set[str]], live: bool) -> "protocol.ModelReport":
    """Return the report on a model; if it is ready, note that in its record."""
    model, record = running.model, running.record
    is_owner = ports.is_owner(running.processes, model["port"], listening)
    keys = processes.keys(running.processes)
    key = keys[0] if keys else None
    told = answers.ask(model["port"], key, running.processes) if is_owner else None
    status = status_of(running, told.health if told else None)
    if record and status == "ready" and not was_ready(record):
        with contextlib.suppress(OSError):  # on a full disk, the note is lost but not the report
            records.write(dict(record, ready=True))  # type: ignore[arg-type]
    is_loading = status == "starting" and model["pid"]
    is_warming = not model["pid"] and record is not None and record.get("warming") is True
    log = record["log"] if record else log_of(model["name"])
    load = told.load if told and status == "ready" else None
    counts = metrics.requests(load)
    unused = idle.seconds(record, counts) if status == "ready" and record else None
    if told and status == "ready" and stalls.is_stalled(model, key, running.processes, told):
        status = "stalled"
    return {
        "uid": model["uid"],
        "name": model["name"],
        "model": record["model"] if record else running.repository or "",
        "port": model["port"],
        "gpu": model["gpu"],
        "pid": model["pid"],
        "memory": record["memory"] if record else None,
        "private": bool(record and record["private"]),
        "status": status,
        "age": home.uptime() - record["since"] if record else None,
        "phase": phases.phase_of(log) or phases.LAUNCHED if is_loading else phases.COMPILING if is_warming else None,
        "progress": record.get("progress") if record else None,
        "requests": counts,
        "idle": unused,
        "metrics": load if live else None,
        "lease": None,
        "memory_used": None,
        "listens": is_owner,
        "proof_keys": proof_keys(model["uid"], keys) if is_owner else [],
        "kind": record.get("kind", "model") if record else "model",
        "role": record.get("role") if record else orphans.role_of(running.pids),
        "peers": record.get("peers", []) if record else [],
    }


def status_of(running: Running, health: Optional[int]) -> "protocol.Status":
    """Return the status of a model; `orphaned`: its engine still holds the GPU after its server died, or its record
    is gone."""
    if not running.model["pid"] or not running.processes:
        return "starting"  # reserved, or downloading
    if running.repository is not None or running.model["pid"] not in running.pids:
        return "orphaned"
    if running.record and running.record.get("role") == "node":
        return "ready"  # it has no server of its own
    if health == 200:
        return "ready"
    return "starting" if health is None and not was_ready(running.record) else "unhealthy"


def was_ready(record: "Optional[protocol.Record]") -> bool:
    return record is not None and record.get("ready", False)


def proof_keys(uid: Optional[str], keys: List[str]) -> List[str]:
    """Return what a model's guard proves itself with, as hex, one for each API key (see `remote/require_key.py`)."""
    import hmac  # not loaded on pods without models

    message = ("pi proof %s" % uid).encode()
    return [hmac.digest(key.encode(), message, "sha256").hex() for key in keys] if uid else []


def held_by(model: "protocol.ModelReport", memory: Dict[int, Tuple[int, int]]) -> Optional[List[int]]:
    """Return the sum of [used, total] MiB of a model's GPUs, by all processes: a container may not see whose it is."""
    ids = records.gpus_of(model)
    if not ids or not all(gpu in memory for gpu in ids):
        return None
    return [sum(memory[gpu][0] for gpu in ids), sum(memory[gpu][1] for gpu in ids)]


def deaths(gone: List[Gone], left: int, ends: "Dict[str, protocol.LeaseEnd]") -> "List[protocol.Death]":
    """Return reports on dead models, the latest first, with the ends of as many logs as fit into this many bytes."""
    reports: "List[protocol.Death]" = []
    for model, record in sorted(gone, key=lambda entry: -(entry.record["since"] if entry.record else 0)):
        path = record["log"] if record else log_of(model["name"])
        end = log_end(path) if left else ""
        left -= min(left, len(end))
        reports.append(
            {
                "name": model["name"],
                "log": path,
                "was_recorded": record is not None,
                "rebooted": record is not None and record["boot"] != home.boot_id(),
                "log_end": end if left else "",
                "lease_end": ends.get(model["uid"] or ""),
            }
        )
    return reports


def log_end(path: str) -> str:
    """Return the end of a log, compressed; the empty string if there is no log."""
    with contextlib.suppress(OSError), os.fdopen(home.open_regular(path), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_LOG_END))
        return binascii.b2a_base64(zlib.compress(file.read(MAX_LOG_END), 9), newline=False).decode("ascii")
    return ""


def log_of(name: str) -> str:
    return os.path.join(LOGS, name + ".log")

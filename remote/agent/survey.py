"""What runs on the pod and how it is, and what has died."""

import base64
import contextlib
import os
import re
import zlib
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Set, Tuple

from agent import gpus, home, phases, ports, processes, records, wire
from agent.home import LOGS
from agent.processes import Process

if TYPE_CHECKING:
    from agent import protocol

MOST_LAST_WORDS: "protocol.MostLastWords" = 65536
MOST_PACKED_WORDS: "protocol.MostPackedWords" = 1048576
REQUESTS = re.compile(rb"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)


class Running(NamedTuple):
    """A model that runs, with its processes. One that was written into pi's list by hand has no record."""

    model: "protocol.KnownModel"
    record: "Optional[protocol.Record]"
    processes: List[Process]

    @property
    def pids(self) -> List[int]:
        return [process.pid for process in self.processes]


class Gone(NamedTuple):
    """A model that does not run any more; one without a record was stopped by another client."""

    model: "protocol.KnownModel"
    record: "Optional[protocol.Record]"


def survey(known: "List[protocol.KnownModel]", *, forget: bool) -> "protocol.Survey":
    """Return everything about this pod at once: what runs, how it is, and which of pi's own entries are gone.

    With `forget` the records of what has died are deleted.
    """
    with records.locked():
        marked = processes.marked()
        recorded, left_out = records.read_and_left_out()
        living = [record for record in recorded if records.lives(record, marked)]
        dead = [record for record in recorded if record not in living]
        for record in dead if forget else []:
            with contextlib.suppress(OSError):  # on a read-only disk it is told again the next time
                records.forget(record["uid"])
    running = [Running(records.known_as(record), record, marked.get(record["uid"], [])) for record in living]
    running += unmarked(known, {record["uid"] for record in living})
    models = described(running) if running else []
    gone = [Gone(records.known_as(record), record) for record in dead]
    uids = {record["uid"] for record in recorded}
    gone += [Gone(model, None) for model in known if model["uid"] not in uids]
    names = {model["name"] for model in models}
    lost = {each.model["name"]: each for each in gone if each.model["pid"] and each.model["name"] not in names}
    return {"models": models, "dead": deaths(list(lost.values())), "unreadable": left_out}


def unmarked(known: "List[protocol.KnownModel]", uids: Set[str]) -> List[Running]:
    """Return the models of pi's list that run without a record: they were started, and written down, by hand."""
    running = {}
    for model in known:
        if model["uid"] not in uids:
            alive = processes.find_unmarked(model)
            if alive:
                running[model["name"]] = Running(model, None, alive)
    return list(running.values())


def described(running: List[Running]) -> "List[protocol.ModelReport]":
    """Ask all models at once how they are, and the GPUs how full."""
    from concurrent import futures  # not for pods on which nothing runs

    with futures.ThreadPoolExecutor(16) as pool:
        memory = pool.submit(gpus.memory) if any(each.model["gpu"] for each in running) else None
        listening = ports.listening_sockets()  # once: for a look at them the kernel takes 7 ms
        asked = [pool.submit(describe, each, listening) for each in running]
        while futures.wait(asked, timeout=1.0).not_done:
            wire.beat()
        reports = [each.result() for each in asked]
        held = memory.result() if memory else {}
    for report in reports:
        report["memory_used"] = held_by(report, held)
    return reports


def describe(running: Running, listening: Dict[int, Set[str]]) -> "protocol.ModelReport":
    """Report on a model, and remember that it has been ready."""
    model, record = running.model, running.record
    status = status_of(running, ports.health(model["port"], running.processes, listening))
    if record and status == "ready" and not record.get("ready"):
        with contextlib.suppress(OSError):  # a full disk costs the note, and not the answer
            records.write(dict(record, ready=True))  # type: ignore[arg-type]
    is_loading = status == "starting" and model["pid"]
    log = record["log"] if record else log_of(model["name"])
    return {
        "uid": model["uid"],
        "name": model["name"],
        "model": record["model"] if record else "",
        "port": model["port"],
        "gpu": model["gpu"],
        "pid": model["pid"],
        "memory": record["memory"] if record else None,
        "private": bool(record and record["private"]),
        "status": status,
        "age": home.uptime() - record["since"] if record else None,
        "phase": phases.phase_of(log) or phases.LAUNCHED if is_loading else None,
        "progress": record.get("progress") if record else None,
        "requests": requests(model["port"], running.processes) if status == "ready" else None,
        "memory_used": None,
    }


def status_of(running: Running, health: Optional[int]) -> "protocol.Status":
    """Name how a model is; `orphaned` is an engine that still holds its GPU after its server died."""
    if not running.model["pid"] or not running.processes:
        return "starting"  # reserved, or downloading
    if running.model["pid"] not in running.pids:
        return "orphaned"
    if health == 200:
        return "ready"
    was_ready = running.record is not None and running.record.get("ready", False)
    return "starting" if health is None and not was_ready else "unhealthy"


def requests(port: int, asked: List[Process]) -> Optional[List[int]]:
    """Return how many requests run and wait, by vLLM's own /metrics; None where it does not say."""
    _, metrics = ports.get(port, "/metrics", key_of(asked))
    counts: Dict[str, int] = {}
    with contextlib.suppress(ValueError, OverflowError):
        for kind, number in REQUESTS.findall(metrics):  # an engine each
            counts[kind.decode("ascii")] = counts.get(kind.decode("ascii"), 0) + int(float(number))
    return [counts["running"], counts["waiting"]] if len(counts) == 2 else None


def key_of(asked: List[Process]) -> Optional[str]:
    """Return the API key from a model's own environment: nowhere else on the pod is it kept."""
    for process in asked:
        with contextlib.suppress(OSError):
            for entry in home.read_bytes("/proc/%d/environ" % process.pid).split(b"\0"):
                if entry.startswith(b"VLLM_API_KEY="):
                    return entry.partition(b"=")[2].decode("ascii", "replace")
    return None


def held_by(model: "protocol.ModelReport", memory: Dict[int, Tuple[int, int]]) -> Optional[List[int]]:
    """Return [used, total] MiB of a model's GPUs together, whoever uses them: in containers that cannot be told."""
    ids = records.gpus_of(model)
    if not ids or not all(gpu in memory for gpu in ids):
        return None
    return [sum(memory[gpu][0] for gpu in ids), sum(memory[gpu][1] for gpu in ids)]


def deaths(gone: List[Gone]) -> "List[protocol.Death]":
    """Report on models that died, the last ones first, with the ends of as many logs as an answer has room for."""
    left = int(MOST_PACKED_WORDS)
    reports: "List[protocol.Death]" = []
    for model, record in sorted(gone, key=lambda each: -(each.record["since"] if each.record else 0)):
        path = record["log"] if record else log_of(model["name"])
        words = last_words(path) if left else ""
        left -= min(left, len(words))
        reports.append(
            {
                "name": model["name"],
                "log": path,
                "was_recorded": record is not None,
                "rebooted": record is not None and record["boot"] != home.boot_id(),
                "last_words": words if left else "",
            }
        )
    return reports


def last_words(path: str) -> str:
    """Return the end of a log, packed; nothing where there is none."""
    with contextlib.suppress(OSError), os.fdopen(home.open_regular(path), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_LAST_WORDS))
        return base64.b64encode(zlib.compress(file.read(MOST_LAST_WORDS), 9)).decode("ascii")
    return ""


def log_of(name: str) -> str:
    return os.path.join(LOGS, name + ".log")

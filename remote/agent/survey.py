"""Tell what runs on the pod, how it is, and what has died."""

import base64
import contextlib
import os
import re
import zlib
from typing import Dict, List, Optional, Set, Tuple

from agent import gpus, home, phases, ports, processes, records, vllm_versions
from agent.home import LOGS
from agent.processes import Process
from agent.wire import Json

REQUESTS = re.compile(rb"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)
LAST_WORDS = 65536  # bytes at the end of a log, in which is why it ended


def survey(known: List[Json], forget: bool = True) -> Json:
    """Tell everything about this pod at once: what runs, how it is, and which of pi's own entries are gone.

    The records of what has died go with that, unless it is only to be known who is here.
    """
    with records.locked():
        marked = processes.marked()
        recorded = records.read_all()
        living = [record for record in recorded if records.lives(record, marked)]
        gone = [record for record in recorded if record not in living]
        for record in gone if forget else []:
            records.forget(record["uid"])
    seen = {record["uid"] for record in living}
    strangers = {}
    for entry in known:
        if entry.get("uid") not in seen:
            unmarked = processes.find_unmarked(entry)
            if unmarked:
                strangers[entry["name"]] = (entry, unmarked)
    here = [(record, marked.get(record["uid"], [])) for record in living] + list(strangers.values())
    models = described(here) if here else []
    names = {model["name"] for model in models}
    lost = gone + [entry for entry in known if entry.get("uid") not in {record["uid"] for record in recorded}]
    dead = {entry["name"]: last_words(entry) for entry in lost if entry["pid"] and entry["name"] not in names}
    return {"models": models, "dead": dead, "vllm": vllm_versions.version()}


def described(here: List[Tuple[Json, List[Process]]]) -> List[Json]:
    """Ask all models at once how they are, and the GPUs how full."""
    from concurrent.futures import ThreadPoolExecutor  # not for pods on which nothing runs

    with ThreadPoolExecutor(16) as pool:
        memory = pool.submit(gpus.memory) if any(record["gpu"] for record, _ in here) else None
        listening = ports.listening_sockets()  # once: for a look at them the kernel takes 7 ms
        models = list(pool.map(lambda each: describe(each[0], each[1], listening), here))
    held = memory.result() if memory else {}
    for model in models:
        model["memory_used"] = held_by(model, held)
    return models


def describe(record: Json, processes: List[Process], listening: Dict[int, Set[str]]) -> Json:
    """Add to a record how it is and for how long, and remember that it has been ready."""
    health = ports.health(record["port"], processes, listening)
    status = status_of(record, [process.pid for process in processes], health)
    if status == "ready" and "boot" in record and not record.get("ready"):
        records.write(dict(record, ready=True))
    told = dict(record, status=status, age=home.uptime() - record["since"] if "since" in record else None)
    if status == "starting":
        told["phase"] = phases.phase_of(record["log"]) or "starting vLLM" if record["pid"] else None
    if status == "ready":
        told["requests"] = requests(record["port"], processes)
    return told


def status_of(record: Json, pids: List[int], health: Optional[int]) -> str:
    """Name how a model is; `orphaned` is an engine that still holds its GPU after its server died."""
    if not record["pid"] or not pids:
        return "starting"  # reserved, or downloading
    if record["pid"] not in pids:
        return "orphaned"
    if health == 200:
        return "ready"
    return "starting" if health is None and not record.get("ready") else "unhealthy"


def requests(port: int, processes: List[Process]) -> Optional[List[int]]:
    """Return how many requests run and wait, as vLLM's own /metrics says; None when it does not."""
    _, metrics = ports.get(port, "/metrics", key_of(processes))
    counts: Dict[str, int] = {}
    with contextlib.suppress(ValueError):
        for kind, number in REQUESTS.findall(metrics):  # an engine each
            counts[kind.decode("ascii")] = counts.get(kind.decode("ascii"), 0) + int(float(number))
    return [counts["running"], counts["waiting"]] if len(counts) == 2 else None


def key_of(processes: List[Process]) -> Optional[str]:
    """Return the API key from a model's own environment: nowhere else on the pod is it kept."""
    for process in processes:
        with contextlib.suppress(OSError):
            for entry in home.read_bytes("/proc/%d/environ" % process.pid).split(b"\0"):
                if entry.startswith(b"VLLM_API_KEY="):
                    return entry.partition(b"=")[2].decode("ascii", "replace")
    return None


def held_by(model: Json, memory: Dict[int, Tuple[int, int]]) -> Optional[List[int]]:
    """Return [used, total] MiB of a model's GPUs together, whoever uses them: in containers nobody can tell who."""
    gpus = records.gpus_of(model)
    if not gpus or not all(gpu in memory for gpu in gpus):
        return None
    return [sum(memory[gpu][0] for gpu in gpus), sum(memory[gpu][1] for gpu in gpus)]


def last_words(entry: Json) -> Json:
    """Return what is left of a model that died: whether the pod was rebooted, and the end of its log, packed.

    One that pi remembers and that has no record any more was stopped by somebody else.
    """
    path = entry.get("log") or os.path.join(LOGS, entry["name"] + ".log")
    rebooted = "boot" in entry and entry["boot"] != home.boot_id()
    told = {"log": path, "was_recorded": "boot" in entry, "rebooted": rebooted, "said": ""}
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_WORDS))
        told["said"] = base64.b64encode(zlib.compress(file.read(), 9)).decode("ascii")
    return told

"""Tell what runs on the pod, and how it is. Used by `pod_agent`.

Standard library only, Python 3.8 or newer.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import List, Optional

import pod_machine as machine
import pod_vllm
from pod_machine import Json, Process


def survey(known: List[Json]) -> Json:
    """Tell everything about this pod at once: what runs, how it is, and which of pi's own entries are gone."""
    with machine.locked():
        processes = machine.marked()
        records = machine.read_records()
        living = [record for record in records if machine.lives(record, processes)]
        for record in records:
            if record not in living:
                machine.forget(record["uid"])
    seen = {record["uid"] for record in living}
    strangers = [entry for entry in known if entry.get("uid") not in seen and machine.find_unmarked(entry)]
    with ThreadPoolExecutor(16) as pool:
        models = list(pool.map(lambda record: describe(record, processes.get(record["uid"], [])), living))
        models += list(pool.map(lambda entry: describe(entry, machine.find_unmarked(entry)), strangers))
    return {"models": models, "vllm": pod_vllm.version()}


def describe(record: Json, processes: List[Process]) -> Json:
    """Add status and age to a record, and remember that it has been ready."""
    health = machine.health(record["port"], processes)
    status = status_of(record, [process.pid for process in processes], health)
    if status == "ready" and "boot" in record and not record.get("ready"):
        machine.write_record(dict(record, ready=True))
    age = machine.uptime() - record["since"] if "since" in record else None
    return dict(record, status=status, age=age)


def status_of(record: Json, pids: List[int], health: Optional[int]) -> str:
    """Name how a model is; `orphaned` is an engine that still holds its GPU after its server died."""
    if not record["pid"] or not pids:
        return "starting"  # reserved, or downloading
    if record["pid"] not in pids:
        return "orphaned"
    if health == 200:
        return "ready"
    return "starting" if health is None and not record.get("ready") else "unhealthy"

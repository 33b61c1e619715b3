"""End models, whole process trees, and prove it."""

from typing import List, Set

from agent import gpus, processes, records
from agent.wire import Json


def stop(models: List[Json]) -> Json:
    """End models: `outcome` is `stopped`, `killed`, `gone` or `stuck` per name.

    `freed` is how many MiB of GPU memory that gave back, where `nvidia-smi` can tell.
    """
    uids = {model["name"]: model.get("uid") or records.uid_of(model["name"]) for model in models}
    before = processes.marked()
    unmarked = {
        model["name"]: processes.find_unmarked(model) for model in models if not before.get(uids[model["name"]] or "")
    }
    known = [record for record in records.read_all() if record["uid"] in uids.values()] + models
    held_gpus = {gpu for model in known for gpu in records.gpus_of(model)}
    held = memory_of(held_gpus)
    outcome = processes.end([uid for uid in uids.values() if uid], [p for found in unmarked.values() for p in found])
    answers = {}
    for name, uid in uids.items():
        had = before.get(uid or "", []) or unmarked.get(name, [])
        stuck = [process.pid for process in had if process.pid in outcome["left"]]
        killed = any(process.pid in outcome["killed"] for process in had)
        answers[name] = "stuck" if stuck else "killed" if killed else "stopped" if had else "gone"
        if uid and not stuck:
            records.forget(uid)
    return {"outcome": answers, "freed": max(0, held - memory_of(held_gpus)) if held else None}


def memory_of(wanted: Set[int]) -> int:
    """Return the MiB in use on these GPUs, 0 where nobody can tell."""
    if not wanted:
        return 0
    return sum(used for gpu, (used, _) in gpus.memory().items() if gpu in wanted)

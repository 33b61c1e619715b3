"""Stop models with all their processes, and verify that they are gone."""

from typing import TYPE_CHECKING, List, Set

from agent import ending, gpus, processes, records

if TYPE_CHECKING:
    from agent import protocol


def stop(models: "List[protocol.KnownModel]") -> "protocol.StopResult":
    """Stop models, and delete the records of those that are gone."""
    uids = [model["uid"] or records.uid_of(model["name"]) for model in models]
    before = processes.marked()
    unmarked = [
        [] if before.get(uid or "") else processes.find_unmarked(model) for model, uid in zip(models, uids)  # noqa: B905
    ]  # fmt: skip
    held_gpus = {gpu for record in records.read_all() if record["uid"] in uids for gpu in records.gpus_of(record)}
    held_gpus |= {gpu for model in models for gpu in records.gpus_of(model)}
    held = memory_of(held_gpus)
    ended = ending.end([uid for uid in uids if uid], [process for group in unmarked for process in group])
    outcomes: "List[protocol.Outcome]" = []
    for uid, alone in zip(uids, unmarked):  # noqa: B905
        pids = {process.pid for process in before.get(uid or "", []) or alone}
        is_stuck = bool(pids & ended["left"])
        outcomes.append(
            "stuck" if is_stuck else "killed" if pids & ended["killed"] else "stopped" if pids else "gone"
        )  # fmt: skip
        if uid and not is_stuck:
            records.forget(uid)
    return {"outcomes": outcomes, "freed": max(0, held - memory_of(held_gpus)) if held else None}


def memory_of(wanted: Set[int]) -> int:
    """Return the MiB in use on these GPUs, 0 if nvidia-smi does not report them."""
    if not wanted:
        return 0
    return sum(used for gpu, (used, _) in gpus.memory().items() if gpu in wanted)

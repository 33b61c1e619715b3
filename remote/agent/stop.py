"""Stop models with all their processes, and verify that they are gone."""

from typing import TYPE_CHECKING, Dict, List, Optional, Set

from agent import ending, gpus, leases, orphans, processes, records
from agent.processes import Process

if TYPE_CHECKING:
    from agent import protocol


SOON = 1 / 30  # of the driver's patience: 2 s


def stop(models: "List[protocol.KnownModel]", *, exact: bool, by_lease: bool = False) -> "protocol.StopResult":
    """Stop models, and delete the records of those that are gone.

    With `exact`, only launches with the given uids. Else the name counts: if that launch is gone, the model of this
    name that runs is meant, whoever started it. Their leases end too, unless it is a lease that ends them.
    """
    before = processes.marked()
    recorded, others, _ = records.look()
    elsewhere = {record["uid"] for record in others}  # their records are kept
    uids = [model["uid"] if exact else uid_of(model, recorded, before) for model in models]
    unmarked = [
        [] if before.get(uid or "") else processes.find_unmarked(model) for model, uid in zip(models, uids)  # noqa: B905
    ]  # fmt: skip
    held_gpus = {gpu for record in recorded if record["uid"] in uids for gpu in records.gpus_of(record)}
    held_gpus |= {gpu for model in models for gpu in records.gpus_of(model)}
    held_before = memory_of(held_gpus)
    if not by_lease:
        leases.stop([uid for uid in uids if uid and uid not in elsewhere])
    ended = ending.end([uid for uid in uids if uid], [process for group in unmarked for process in group])
    outcomes: "List[protocol.Outcome]" = []
    for uid, alone in zip(uids, unmarked):  # noqa: B905
        pids = {process.pid for process in before.get(uid or "", []) or alone}
        is_stuck = bool(pids & ended["left"])
        outcomes.append(
            "stuck" if is_stuck else "killed" if pids & ended["killed"] else "stopped" if pids else "gone"
        )  # fmt: skip
        if uid and not is_stuck and uid not in elsewhere:
            records.forget(uid)
    held = memory_of(held_gpus) if held_before else None
    peers = {record["uid"]: record.get("peers", []) for record in recorded}
    return {
        "outcomes": outcomes,
        "uids": uids,
        "peers": [peers.get(uid or "", []) for uid in uids],
        "others": [bool(model["uid"]) and uid != model["uid"] for model, uid in zip(models, uids)],  # noqa: B905
        "freed": None if held_before is None or held is None else max(0, held_before - held),
    }


def uid_of(
    model: "protocol.KnownModel", recorded: "List[protocol.Record]", marked: Dict[str, List[Process]]
) -> Optional[str]:
    """Return the uid of the launch that is meant: the known one while it lives, else one of this name that does, else
    the one whose record is to be deleted."""
    named = sorted((each for each in recorded if each["name"] == model["name"]), key=lambda record: -record["since"])
    living = [record["uid"] for record in named if records.lives(record, marked)]
    if model["uid"] and (model["uid"] in marked or model["uid"] in living):
        return model["uid"]
    orphaned = orphans.find(marked, {record["uid"] for record in recorded})
    living += [str(orphan.model["uid"]) for orphan in orphaned if orphan.model["name"] == model["name"]]
    if living:
        return living[0]
    return model["uid"] or next((record["uid"] for record in named), None)


def memory_of(wanted: Set[int]) -> Optional[int]:
    """Return the MiB in use on these GPUs; None if nvidia-smi does not say so soon: a stop does not wait for it."""
    found = gpus.memory(share=SOON).sizes if wanted else {}
    return sum(used for gpu, (used, _) in found.items() if gpu in wanted) if found else None

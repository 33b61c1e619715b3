"""Models whose record is gone: found by the marker in their processes, named by their command lines."""

from typing import TYPE_CHECKING, Collection, Dict, List, NamedTuple, Optional

from agent import home, processes, records
from agent.processes import Process

if TYPE_CHECKING:
    from agent import protocol


class Orphan(NamedTuple):
    """A model without a record, and the repository that it serves, as far as its processes tell."""

    model: "protocol.KnownModel"
    repository: str


def find(marked: Dict[str, List[Process]], recorded: Collection[str]) -> List[Orphan]:
    """Return the models among the marked processes that have no record; `recorded` are the uids of those that do.

    A model with another home was started by another user of the machine, and has its record there.
    """
    return [
        describe(uid, group)
        for uid, group in sorted(marked.items())
        if uid not in recorded and records.UID.fullmatch(uid) and is_ours(group)
    ]


def is_ours(group: List[Process]) -> bool:
    """Return whether a model has this home. Not if it has died since: its record was deleted because it was stopped."""
    return any(processes.variable(process.pid, "HOME") == home.HOME for process in group)


def describe(uid: str, group: List[Process]) -> Orphan:
    """Describe a model by its server's command line; an engine alone has none, and is named by its uid."""
    server = group[0]
    words: List[str] = []
    for process in group:
        line = processes.command_line(process.pid)
        if "serve" in line and "--served-model-name" in line:
            server, words = process, line
            break
    port = option(words, "--port")
    model: "protocol.KnownModel" = {
        "name": option(words, "--served-model-name") or "unrecorded-" + uid[:8],
        "uid": uid,
        "pid": server.pid,
        "port": int(port) if port.isdigit() and 0 < int(port) <= records.MAX_PORT else 1,
        "gpu": gpus_of(server.pid),
    }
    return Orphan(model, option(words, "serve"))


def role_of(pids: List[int]) -> "Optional[protocol.Role]":
    """Return the role of a model without a record in a model over several pods, by the command line of its server."""
    words = [word for pid in pids for word in processes.command_line(pid)]
    if "--nnodes" not in words:
        return None
    return "node" if "--headless" in words else "head"


def option(words: List[str], name: str) -> str:
    """Return the word after another; the empty string if there is none."""
    return words[words.index(name) + 1] if name in words[:-1] else ""


def gpus_of(pid: int) -> str:
    """Return the ids of the GPUs that a process may use, if they are given as numbers."""
    devices = processes.variable(pid, "CUDA_VISIBLE_DEVICES")
    return devices if records.GPU_IDS.fullmatch(devices) else ""

"""What pi does on a prepared pod: one JSON request on stdin, marked JSON lines on stdout.

pi feeds this program to `python3 -I -S` for every command; nothing of it stays on the pod but these files:

    ~/.pi/models/UID.json    one record per model, written before vLLM is started
    ~/.pi/lock               held while ports, GPUs and names are given out
    ~/.pi/lib/               the middleware that asks for the key
    ~/.vllm_logs/NAME.log    what vLLM prints; the previous one is kept as NAME.log.1

A model is recognised by PI_MODEL_UID=UID in the environment of its processes, which every child inherits, whatever
session or group it moves to. stdin stays open while pi listens: at its end a download is stopped, vLLM is left alone.
Standard library only, Python 3.8 or newer.
"""

import json
import os
import sys
from typing import Any, Callable, Dict, List, Optional, Set

import pod_machine as machine
from pod_machine import Json, Refused


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    os.umask(0o077)
    try:
        result = OPERATIONS[request.pop("operation")](**request)
    except Refused as refused:
        machine.emit(error=dict(refused.facts, code=refused.code, message=str(refused)))
    except OSError as error:
        machine.emit(error={"code": "os", "message": str(error)})
    else:
        machine.emit(result=result)
    machine.leave()


def start(**request: Any) -> Json:
    import pod_start  # what an operation does not need does not travel

    return pod_start.start(**request)


def attach(name: str) -> Json:
    import pod_start

    return pod_start.attach(name)


def survey(known: List[Json], forget: bool = True) -> Json:
    import pod_list

    return pod_list.survey(known, forget)


def inspect(gpu_query: List[str], gpu_list: List[str], known: Optional[List[Json]]) -> Json:
    """Tell what this machine is and has; with `known` also what runs on it, as `survey` does."""
    import pod_inspect
    import pod_list

    found = pod_inspect.look(gpu_query, gpu_list)
    return found if known is None else dict(found, models=pod_list.survey(known, forget=False)["models"])


def stop(models: List[Json]) -> Json:
    """End models, whole process trees, and prove it: `outcome` is `stopped`, `killed`, `gone` or `stuck` per name.

    `freed` is how many MiB of GPU memory that gave back, where `nvidia-smi` can tell.
    """
    uids = {model["name"]: model.get("uid") or machine.uid_of(model["name"]) for model in models}
    before = machine.marked()
    unmarked = {
        model["name"]: machine.find_unmarked(model) for model in models if not before.get(uids[model["name"]] or "")
    }
    known = [record for record in machine.read_records() if record["uid"] in uids.values()] + models
    gpus = {gpu for model in known for gpu in machine.gpus_of(model)}
    held = memory_of(gpus)
    outcome = machine.end([uid for uid in uids.values() if uid], [p for found in unmarked.values() for p in found])
    answers = {}
    for name, uid in uids.items():
        had = before.get(uid or "", []) or unmarked.get(name, [])
        stuck = [process.pid for process in had if process.pid in outcome["left"]]
        killed = any(process.pid in outcome["killed"] for process in had)
        answers[name] = "stuck" if stuck else "killed" if killed else "stopped" if had else "gone"
        if uid and not stuck:
            machine.forget(uid)
    return {"outcome": answers, "freed": max(0, held - memory_of(gpus)) if held else None}


def memory_of(gpus: Set[int]) -> int:
    """Return the MiB in use on these GPUs, 0 where nobody can tell."""
    if not gpus:
        return 0
    import pod_gpus

    return sum(used for gpu, (used, _) in pod_gpus.memory().items() if gpu in gpus)


def holders(questions: List[List[str]]) -> Json:
    """Tell what `nvidia-smi` says of who holds memory, and which processes are our models'."""
    import pod_gpus

    settings = machine.pod_environment()
    ours = [process.pid for group in machine.marked().values() for process in group]
    return {"said": [pod_gpus.ask(question, settings)["text"] for question in questions], "ours": ours}


def logs(**request: Any) -> Json:
    import pod_logs

    return pod_logs.logs(**request)


OPERATIONS: Dict[str, Callable[..., Any]] = {
    "start": start,
    "attach": attach,
    "survey": survey,
    "inspect": inspect,
    "stop": stop,
    "holders": holders,
    "logs": logs,
}

if __name__ == "__main__":
    main()

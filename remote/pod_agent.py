"""What pi does on a prepared pod: one JSON request on stdin, marked JSON lines on stdout.

pi feeds this program to `python3 -I` for every command; nothing of it stays on the pod but these files:

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
from typing import Any, Callable, Dict, List, Optional

import pod_machine as machine
from pod_machine import Json, Refused


def main() -> None:
    request = json.loads(sys.stdin.buffer.readline())
    os.umask(0o077)
    try:
        result = OPERATIONS[request.pop("operation")](**request)
    except Refused as refused:
        machine.emit(error={"code": refused.code, "message": str(refused)})
    except OSError as error:
        machine.emit(error={"code": "os", "message": str(error)})
    else:
        machine.emit(result=result)


def start(**request: Any) -> Json:
    import pod_start  # what an operation does not need does not travel

    return pod_start.start(**request)


def survey(known: List[Json]) -> Json:
    import pod_list

    return pod_list.survey(known)


def inspect(gpu_query: List[str], gpu_list: List[str], known: Optional[List[Json]]) -> Json:
    """Tell what this machine is and has; with `known` also what runs on it, as `survey` does."""
    import pod_inspect

    found = pod_inspect.look(gpu_query, gpu_list)
    return found if known is None else dict(found, models=survey(known)["models"])


def stop(models: List[Json]) -> Json:
    """End models, whole process trees, and prove it. Answers `stopped`, `killed`, `gone` or `stuck` per name."""
    uids = {model["name"]: model.get("uid") or machine.uid_of(model["name"]) for model in models}
    before = machine.marked()
    unmarked = {
        model["name"]: machine.find_unmarked(model) for model in models if not before.get(uids[model["name"]] or "")
    }
    outcome = machine.end([uid for uid in uids.values() if uid], [p for found in unmarked.values() for p in found])
    answers = {}
    for name, uid in uids.items():
        had = before.get(uid or "", []) or unmarked.get(name, [])
        stuck = [process.pid for process in had if process.pid in outcome["left"]]
        killed = any(process.pid in outcome["killed"] for process in had)
        answers[name] = "stuck" if stuck else "killed" if killed else "stopped" if had else "gone"
        if uid and not stuck:
            machine.forget(uid)
    return answers


def logs(**request: Any) -> Json:
    import pod_logs

    return pod_logs.logs(**request)


OPERATIONS: Dict[str, Callable[..., Any]] = {
    "start": start,
    "survey": survey,
    "inspect": inspect,
    "stop": stop,
    "logs": logs,
}

if __name__ == "__main__":
    main()

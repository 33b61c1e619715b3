"""The records of models in ~/.pi/models, and the lock under which they are written."""

import contextlib
import fcntl
import glob
import json
import os
from typing import Dict, Iterator, List, Optional, Set

from agent import home, processes
from agent.home import PI
from agent.processes import Process
from agent.wire import Json, Refused

MODELS = os.path.join(PI, "models")
YOUNG = 30.0  # seconds a reservation counts before its first process runs


def read_all() -> List[Json]:
    records = []
    for path in sorted(glob.glob(os.path.join(MODELS, "*.json"))):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(home.read_bytes(path))
            if isinstance(record, dict) and {"uid", "name", "port", "gpu", "pid"} <= set(record):
                records.append(record)
    return records


def living() -> List[Json]:
    marked = processes.marked()
    return [record for record in read_all() if lives(record, marked)]


def lives(record: Json, marked: Dict[str, List[Process]]) -> bool:
    """Tell whether a record stands for something: processes with its uid, or one about to become vLLM, or a fresh
    reservation whose first process is still to come."""
    if record["uid"] in marked:
        return True
    if record.get("boot") != home.boot_id():
        return False
    if record["pid"]:
        return 0 < processes.start_time(record["pid"]) == record.get("start")
    # A download says again and again that it lives: between two runs of hf it has no process.
    return home.uptime() - float(record.get("touched") or record.get("since", 0)) < YOUNG


def uid_of(name: str) -> Optional[str]:
    """Return the uid of the newest record with this name."""
    named = [record for record in read_all() if record["name"] == name]
    return str(max(named, key=lambda record: float(record.get("since", 0)))["uid"]) if named else None


def gpus_of(model: Json) -> Set[int]:
    return {int(gpu) for gpu in str(model.get("gpu", "")).split(",") if gpu.strip()}


def write(record: Json) -> None:
    home.write_file(os.path.join(MODELS, record["uid"] + ".json"), json.dumps(record, indent=1))


def exists(uid: str) -> bool:
    return os.path.exists(os.path.join(MODELS, uid + ".json"))


def forget(uid: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(MODELS, uid + ".json"))


@contextlib.contextmanager
def locked() -> Iterator[None]:
    os.makedirs(PI, mode=0o700, exist_ok=True)
    with open(os.path.join(PI, "lock"), "a") as file:

        def held() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not home.wait_until(held, 20.0):
            raise Refused("locked", "another pi command has held %s for 20 s" % file.name)
        yield

"""The records of models in ~/.pi/models, and the lock under which they are written.

Other versions of pi read them, and users may edit them. A record that cannot be read is skipped; the others count.
"""

import contextlib
import fcntl
import glob
import json
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Set, Tuple, Union

from agent import home, processes
from agent.home import LOGS, PI
from agent.processes import Process
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

VERSION: "protocol.Version" = 1
MAX_RECORD: "protocol.MaxRecord" = 1048576
MODELS = os.path.join(PI, "models")
YOUNG = 30.0  # seconds for which a reservation counts without a process
LOCK_TIMEOUT = 20.0  # seconds
UID = re.compile(r"[A-Za-z0-9_-]{1,64}")
GPU_IDS = re.compile(r"(\d{1,4}(,\d{1,4})*)?")
MAX_PORT = 65535
MAX_BYTES = 1 << 62


def read_all() -> "List[protocol.Record]":
    return read_and_skipped()[0]


def read_and_skipped() -> "Tuple[List[protocol.Record], List[protocol.Unreadable]]":
    """Return the records, and those that cannot be read, with the reason."""
    records: "List[protocol.Record]" = []
    skipped: "List[protocol.Unreadable]" = []
    for path in sorted(glob.glob(os.path.join(MODELS, "*.json"))):
        try:
            records.append(parse(read(path), os.path.basename(path)[: -len(".json")]))
        except FileNotFoundError:
            pass  # its model was just stopped
        except OSError as error:
            skipped.append({"file": path, "reason": error.strerror or str(error)})
        except (ValueError, RecursionError) as error:
            skipped.append({"file": path, "reason": str(error)})
    return records, skipped


def read(path: str) -> Any:
    """Return the JSON of a record's file. Raises `ValueError` or `OSError`."""
    data = home.read_regular(path, MAX_RECORD + 1)
    if len(data) > MAX_RECORD:
        raise ValueError("it is larger than %d bytes" % MAX_RECORD)
    try:
        return json.loads(data)
    except ValueError:
        raise ValueError("it is not JSON") from None


def parse(data: Any, uid: str) -> "protocol.Record":
    """Return a record, with defaults for keys that older versions do not write; unknown keys are kept.

    Raises `ValueError` for a value of the wrong type or out of range.
    """
    if not isinstance(data, dict):
        raise ValueError("it is not an object")
    if data.get("protocol", VERSION) != VERSION:
        raise ValueError("a newer version of pi wrote it")
    require(data.get("uid") == uid and UID.fullmatch(uid), "uid")
    require(isinstance(data.get("name"), str) and data["name"], "name")
    require(isinstance(data.get("model", ""), str), "model")
    require(is_whole(data.get("port"), 1, MAX_PORT), "port")
    require(isinstance(data.get("gpu"), str) and GPU_IDS.fullmatch(data["gpu"]), "gpu")
    require(is_whole(data.get("pid"), 0, 1 << 32), "pid")
    memory = data.get("memory")
    require(memory is None or (is_number(memory, 1) and memory), "memory")
    for name in ("start", "since", "touched"):
        require(is_number(data.get(name, 0)), name)
    progress = data.get("progress")
    require(progress is None or (isinstance(progress, list) and len(progress) == 2), "progress")
    require(all(size is None or is_whole(size, 0, MAX_BYTES) for size in progress or ()), "progress")
    record: Any = dict(data, protocol=VERSION, memory=memory, model=data.get("model", ""))
    for name, default in (("boot", ""), ("log", os.path.join(LOGS, data["name"] + ".log"))):
        record[name] = data.get(name) or default
        require(isinstance(record[name], str), name)
    record["vllm"] = data.get("vllm") if isinstance(data.get("vllm"), str) else None
    record["private"] = data.get("private") is True
    record["arguments"] = data.get("arguments") if isinstance(data.get("arguments"), list) else []
    record["start"], record["since"] = int(data.get("start", 0)), float(data.get("since", 0))
    parsed: "protocol.Record" = record
    return parsed


def require(value: object, key: str) -> None:
    if not value:
        raise ValueError("its `%s` is missing or wrong" % key)


def is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, high: int = MAX_BYTES) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= high  # NaN is neither


def living() -> "List[protocol.Record]":
    marked = processes.marked()
    return [record for record in read_all() if lives(record, marked)]


def lives(record: "protocol.Record", marked: Dict[str, List[Process]]) -> bool:
    """Return whether a record's model is alive: it has processes with its uid, or one that is about to become vLLM, or
    a reservation that is younger than `YOUNG`."""
    if record["uid"] in marked:
        return True
    if record["boot"] != home.boot_id():
        return False
    if record["pid"]:
        return 0 < processes.start_time(record["pid"]) == record["start"]
    # A download updates `touched` regularly, since it has no process between two runs of hf.
    return home.uptime() - (record.get("touched") or record["since"]) < YOUNG


def uid_of(name: str) -> Optional[str]:
    """Return the uid of the newest record with this name."""
    named = [record for record in read_all() if record["name"] == name]
    return max(named, key=lambda record: record["since"])["uid"] if named else None


def known_as(model: "Union[protocol.Record, protocol.LogSource]") -> "protocol.KnownModel":
    """Return the keys by which a model's processes are found."""
    known: "protocol.KnownModel" = {
        "name": model["name"],
        "uid": model["uid"],
        "pid": model["pid"],
        "port": model["port"],
        "gpu": model["gpu"],
    }
    return known


def gpus_of(model: "Union[protocol.Record, protocol.KnownModel, protocol.ModelReport]") -> Set[int]:
    return {int(gpu) for gpu in model["gpu"].split(",") if gpu.strip().isdigit()}


def write(record: "protocol.Record") -> None:
    home.write_file(path_of(record["uid"]), json.dumps(record, indent=1))


def exists(uid: str) -> bool:
    return os.path.exists(path_of(uid))


def forget(uid: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path_of(uid))


def path_of(uid: str) -> str:
    return os.path.join(MODELS, uid + ".json")


@contextlib.contextmanager
def locked(*, required: bool = True) -> Iterator[None]:
    """Hold the lock while the block runs. If it is not `required`, a disk that is full or read-only is no obstacle."""
    try:
        os.makedirs(PI, mode=0o700, exist_ok=True)
        opened = open(os.path.join(PI, "lock"), "a")  # noqa: SIM115 - closed below
    except OSError:
        if required:
            raise
        yield
        return
    with opened as file:

        def held() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not home.wait_until(held, LOCK_TIMEOUT):
            raise Refused({"code": "locked", "path": file.name, "seconds": LOCK_TIMEOUT})
        yield

"""The records of models in ~/.pi/models, and the lock under which they are written.

Other versions of pi read them, and users may edit them. A record that cannot be read is skipped; the others count.
Machines that share the home have their records in the same folder, and leave those of others alone.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import stat
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple, Union

from agent import home, machine, processes
from agent.home import PI
from agent.machine import LOGS, PLACE
from agent.processes import Process
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

VERSION: "protocol.Version" = 1
MAX_RECORD: "protocol.MaxRecord" = 1048576
MODELS = os.path.join(PI, "models")
YOUNG = 30.0  # seconds for which a reservation counts without a process
LOCK_TIMEOUT = 20.0  # seconds
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # NFS without its lock daemon, some FUSE file systems
LOCAL = ("/dev/shm", "/tmp")  # folders of this machine only, for a lock that the disk of the home refuses
UID = re.compile(r"[A-Za-z0-9_-]{1,64}")
GPU_IDS = re.compile(r"(\d{1,4}(,\d{1,4})*)?")
MAX_PORT = 65535
MAX_BYTES = 1 << 62
MAX_PEERS = 64


class Found(NamedTuple):
    """The records of this machine, those of `others` that share its home, and those that cannot be read."""

    records: "List[protocol.Record]"
    others: "List[protocol.Record]"
    skipped: "List[protocol.Unreadable]"


def read_all() -> "List[protocol.Record]":
    return look().records


def look() -> Found:
    """Return all records, separated by machine. A model with processes here belongs to this machine."""
    records, skipped = read_files()
    others = [record for record in records if not is_ours(record)]
    if others:
        marked = processes.marked()
        others = [record for record in others if record["uid"] not in marked]
    return Found([record for record in records if record not in others], others, skipped)


def is_ours(record: "protocol.Record") -> bool:
    """Return whether a record is surely one of this machine.

    Older versions of pi did not note the machine. A record of another boot, or of a machine that had another id then
    (a recreated container), is one of this machine if no other machine can use the home.
    """
    machine_id, is_of_this_boot = record["machine"], record["boot"] == home.boot_id()
    if machine_id == machine.ID or (is_of_this_boot and not machine_id):
        return True
    return not is_of_this_boot and not machine.is_home_shared()


def read_files() -> "Tuple[List[protocol.Record], List[protocol.Unreadable]]":
    records: "List[protocol.Record]" = []
    skipped: "List[protocol.Unreadable]" = []
    for path in home.files_in(MODELS, ".json"):
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
    try:
        data = home.read_regular(path, MAX_RECORD + 1)
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        data = home.read_regular(path, MAX_RECORD + 1)  # another machine replaced the file at this moment
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
    for name, default in (("boot", ""), ("machine", ""), ("log", os.path.join(LOGS, data["name"] + ".log"))):
        record[name] = data.get(name) or default
        require(isinstance(record[name], str), name)
    if data.get("kind") not in ("gateway", "lease"):
        record.pop("kind", None)
    record["vllm"] = data.get("vllm") if isinstance(data.get("vllm"), str) else None
    record["private"] = data.get("private") is True
    record["arguments"] = data.get("arguments") if isinstance(data.get("arguments"), list) else []
    record["start"], record["since"] = int(data.get("start", 0)), float(data.get("since", 0))
    if record.get("role") not in ("head", "node"):
        record.pop("role", None)
    peers = record.pop("peers", None)
    if isinstance(peers, list):
        record["peers"] = [peer for peer in peers if isinstance(peer, str)][:MAX_PEERS]
    parsed: "protocol.Record" = record
    return parsed


def require(value: object, key: str) -> None:
    if not value:
        raise ValueError("its `%s` is missing or wrong" % key)


def is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_number(value: object, high: int = MAX_BYTES) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= high  # NaN is neither


def living(records: "Optional[List[protocol.Record]]" = None) -> "List[protocol.Record]":
    """Return those of these records, or of all of this machine, whose models are alive."""
    marked = processes.marked()
    return [record for record in (read_all() if records is None else records) if lives(record, marked)]


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
    for path in (path_of(uid), manifest_of(uid)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def path_of(uid: str) -> str:
    return os.path.join(MODELS, uid + ".json")


def manifest_of(uid: str) -> str:
    """Return the file that the balancer of a gateway reads its workers from."""
    return os.path.join(PI, "gateway", uid + ".workers")


@contextlib.contextmanager
def locked(*, required: bool = True) -> Iterator[str]:
    """Hold this machine's lock while the block runs; not `required`: a disk that is full or read-only is no obstacle.

    Yield the path of the lock if this is the first time since boot that its file system refused it; else nothing.
    """
    path, refused = os.path.join(PLACE, "lock"), ""
    try:
        os.makedirs(PLACE, mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not has_locks(descriptor):
            os.close(descriptor)
            descriptor, is_new = local_lock(path)
            refused = path if is_new else ""
    except OSError:
        if required:
            raise
        yield refused
        return
    try:
        if not home.wait_until(lambda: is_held(descriptor), LOCK_TIMEOUT):
            raise Refused({"code": "locked", "path": path, "seconds": LOCK_TIMEOUT})
        yield refused
    finally:
        os.close(descriptor)


def is_held(descriptor: int) -> bool:
    """Try to take a lock; return whether this process has it now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def has_locks(descriptor: int) -> bool:
    """Return whether the file system of a file has locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in NO_LOCKS
    return True


def local_lock(path: str) -> Tuple[int, bool]:
    """Open a file outside of the home for this machine's lock; return it, and whether it is new.

    Other users can write to these folders too: a file that they have planted is not used. Raises `OSError`.
    """
    name = "pi-%d-%s.lock" % (os.geteuid(), machine.ID)
    for folder in LOCAL:
        with contextlib.suppress(OSError):
            other = os.path.join(folder, name)
            is_new = not os.path.lexists(other)
            descriptor = os.open(other, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and has_locks(descriptor):
                return descriptor, is_new
            os.close(descriptor)
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), path)

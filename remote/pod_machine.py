"""What is on the pod: processes and their markers, ports, records, programs. Used by `pod_agent`.

Standard library only, Python 3.8 or newer.
"""

import contextlib
import fcntl
import glob
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, NoReturn, Optional, Set, Tuple

MARKER = "PI_MODEL_UID"
HOME = os.path.expanduser("~")
PI = os.path.join(HOME, ".pi")
MODELS = os.path.join(PI, "models")
LOGS = os.path.join(HOME, ".vllm_logs")
GRACE = 12.0  # seconds between TERM and KILL
TICK = 0.2  # seconds between two looks
HTTP_PATIENCE = 2.0  # seconds for an answer
YOUNG = 30.0  # seconds a reservation counts before its first process runs

MARK = "\x1epi "  # login shells print banners to stdout: only lines that carry this are ours

Json = Dict[str, Any]


class Refused(Exception):
    """The request cannot be done; `code` tells pi which error to show, and `facts` what there is to say about it."""

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


def emit(**message: Any) -> None:
    """Write one marked line. JSON keeps newlines and other control characters escaped, so a line is a message.

    When nobody reads any more, nothing is said any more, and the end of stdin tells that pi is gone: whoever waits for
    that has something to clean up first.
    """
    line = "\n" + MARK + json.dumps(message) + "\n"
    try:
        sys.stdout.buffer.write(line.encode("ascii"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave() -> NoReturn:
    """End at once: all is said, or nobody listens any more."""
    os._exit(0)


class Process(NamedTuple):
    """A living process. `start` is its start time in clock ticks since boot: with the PID, it is unique."""

    pid: int
    start: int


def marked() -> Dict[str, List[Process]]:
    """Return the living processes of every model, by uid. Zombies are dead."""
    found: Dict[str, List[Process]] = {}
    needle = b"\0" + MARKER.encode() + b"="
    for pid in all_pids():
        with contextlib.suppress(OSError):
            environment = b"\0" + read_bytes("/proc/%d/environ" % pid)
            if needle in environment:
                uid = environment.split(needle, 1)[1].split(b"\0", 1)[0].decode("ascii", "replace")
                start = start_time(pid)
                if start:
                    found.setdefault(uid, []).append(Process(pid, start))
    return found


def all_pids() -> List[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is dead or a zombie."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else 0


def stat_fields(pid: int) -> List[str]:
    """Return /proc/PID/stat from the state on (proc(5), field 3): the name before it may hold anything."""
    try:
        return read_bytes("/proc/%d/stat" % pid).decode("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []


def end(uids: Iterable[str], unmarked: Iterable[Process] = (), grace: float = GRACE) -> Dict[str, Set[int]]:
    """TERM every process with these markers, KILL what is left after `grace` seconds, and look again."""
    wanted, others = set(uids), list(unmarked)

    def living() -> Set[int]:
        found = {process.pid for uid, group in marked().items() if uid in wanted for process in group}
        return found | {process.pid for process in others if start_time(process.pid) == process.start}

    def all_gone() -> bool:
        if living():
            return False
        time.sleep(0.05)  # in the middle of exec a process shows no environment
        return not living()

    signal_all(living(), signal.SIGTERM)
    wait_until(all_gone, grace)
    killed = living()
    for _ in range(5):  # what was forked between the look and the signal is found by the next look
        signal_all(living(), signal.SIGKILL)
        if wait_until(all_gone, 1.0):
            break
    return {"killed": killed, "left": living()}


def signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def find_unmarked(entry: Json) -> List[Process]:
    """Return the processes of a model without marker, known by hand-written PID: it must be a vLLM on that port.

    A PID may have been reused by somebody innocent, so the command line has to agree.
    """
    pid, port = int(entry.get("pid") or 0), str(entry["port"])
    with contextlib.suppress(OSError):
        words = read_bytes("/proc/%d/cmdline" % pid).decode("utf-8", "replace").split("\0")
        has_port = port in words or "--port=" + port in words
        if pid > 1 and any("vllm" in word for word in words) and has_port:
            group = stat_fields(pid)[2]
            together = [other for other in all_pids() if stat_fields(other)[2:3] == [group]]
            return [Process(other, start_time(other)) for other in together if start_time(other)]
    return []


def health(port: int, processes: List[Process], listening: Optional[Dict[int, Set[str]]] = None) -> Optional[int]:
    """Return the HTTP status of `/health`; None when none of these processes listens on the port.

    `listening` is what `listening_sockets` has told a moment ago.
    """
    inodes = (listening_sockets() if listening is None else listening).get(port)
    if not inodes or not inodes & socket_inodes(processes):
        return None
    return get(port, "/health")[0]


def get(port: int, path: str, key: Optional[str] = None) -> Tuple[int, bytes]:
    """Return status and body of what a server of this machine answers; status 0 where it does not.

    By hand: to load `http.client` takes longer than all else that a list takes.
    """
    lines = ["GET %s HTTP/1.0" % path, "Host: 127.0.0.1:%d" % port, "Connection: close"]
    lines += ["Authorization: Bearer " + key] if key else []
    deadline, answer = time.monotonic() + HTTP_PATIENCE, b""
    with contextlib.suppress(OSError, ValueError):
        with socket.create_connection(("127.0.0.1", port), HTTP_PATIENCE) as there:
            there.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode("ascii"))
            while chunk := there.recv(65536):
                answer += chunk
                there.settimeout(max(0.001, deadline - time.monotonic()))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body
    return 0, b""


def is_free(port: int) -> bool:
    """Tell whether nobody has a port. vLLM binds it at once and listens only when loaded: a plain bind sees that.

    A port that just was a server's refuses a plain bind for a minute (TIME_WAIT) and is free all the same.
    """
    if can_bind(port, reuse=False):
        return True
    return port in waiting_ports() and can_bind(port, reuse=True)


def can_bind(port: int, *, reuse: bool) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        try:
            probe.bind(("", port))
            probe.listen(1)  # bind alone succeeds beside a socket that is bound and not yet listening
        except OSError:
            return False
    return True


def waiting_ports() -> Set[int]:
    """Return the local ports in TIME_WAIT (proc(5): state 06)."""
    return {port for port, state, _ in sockets() if state == "06"}


def listening_sockets() -> Dict[int, Set[str]]:
    """Return the inodes of the sockets that listen, by port (proc(5): state 0A)."""
    found: Dict[int, Set[str]] = {}
    for port, state, inode in sockets():
        if state == "0A":
            found.setdefault(port, set()).add(inode)
    return found


def sockets() -> Iterator[Tuple[int, str, str]]:
    """Yield (local port, state, inode) of every TCP socket."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in read_bytes(table).decode("ascii", "replace").splitlines()[1:]:
                fields = line.split()
                yield int(fields[1].rpartition(":")[2], 16), fields[3], fields[9]


def socket_inodes(processes: List[Process]) -> Set[str]:
    inodes = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for entry in os.scandir("/proc/%d/fd" % process.pid):
                with contextlib.suppress(OSError):
                    inodes.update(re.findall(r"^socket:\[(\d+)\]$", os.readlink(entry.path)))
    return inodes


def read_records() -> List[Json]:
    records = []
    for path in sorted(glob.glob(os.path.join(MODELS, "*.json"))):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(read_bytes(path))
            if isinstance(record, dict) and {"uid", "name", "port", "gpu", "pid"} <= set(record):
                records.append(record)
    return records


def living_records() -> List[Json]:
    processes = marked()
    return [record for record in read_records() if lives(record, processes)]


def lives(record: Json, processes: Dict[str, List[Process]]) -> bool:
    """Tell whether a record stands for something: processes with its uid, or one about to become vLLM, or a fresh
    reservation whose first process is still to come."""
    if record["uid"] in processes:
        return True
    if record.get("boot") != boot_id():
        return False
    if record["pid"]:
        return 0 < start_time(record["pid"]) == record.get("start")
    # A download says again and again that it lives: between two runs of hf it has no process.
    return uptime() - float(record.get("touched") or record.get("since", 0)) < YOUNG


def is_alive(entry: Json) -> bool:
    return bool(entry.get("uid") and marked().get(entry["uid"])) or bool(find_unmarked(entry))


def uid_of(name: str) -> Optional[str]:
    """Return the uid of the newest record with this name."""
    named = [record for record in read_records() if record["name"] == name]
    return str(max(named, key=lambda record: float(record.get("since", 0)))["uid"]) if named else None


def gpus_of(model: Json) -> Set[int]:
    return {int(gpu) for gpu in str(model.get("gpu", "")).split(",") if gpu.strip()}


def write_record(record: Json) -> None:
    write_file(os.path.join(MODELS, record["uid"] + ".json"), json.dumps(record, indent=1))


def has_record(uid: str) -> bool:
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

        if not wait_until(held, 20.0):
            raise Refused("locked", "another pi command has held %s for 20 s" % file.name)
        yield


def pod_environment() -> Dict[str, str]:
    """Return our environment with what setup wrote to ~/.pi/env, as bash reads it."""
    # What BASH_ENV prints comes before the first zero.
    script = 'set -a; [ -r "$HOME/.pi/env" ] && . "$HOME/.pi/env"; printf "\\0"; exec env -0'
    told = subprocess.run(
        ["bash", "--norc", "-c", script], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
    )
    entries = told.stdout.decode("utf-8", "surrogateescape").split("\0")[1:]
    settings = {name: value for name, _, value in (entry.partition("=") for entry in entries) if name}
    settings.pop("PYTHONHOME", None)  # no virtual environment's Python starts with it
    # Where ~/venv leads to now: a setup that makes it lead elsewhere must not move who runs from there.
    programs = os.path.join(os.path.realpath(os.path.join(HOME, "venv")), "bin")
    settings["PATH"] = os.pathsep.join([programs, settings.get("PATH", os.defpath)])
    return settings


def find_program(name: str, settings: Dict[str, str]) -> str:
    import shutil

    found = shutil.which(name, path=settings["PATH"])
    if not found:
        raise Refused("not-set-up", "`%s` is not installed on the pod" % name)
    return found


def boot_id() -> str:
    try:
        return read_bytes("/proc/sys/kernel/random/boot_id").decode("ascii").strip()
    except OSError:
        return ""


def uptime() -> float:
    """Return seconds since boot, sleep included: unlike the clock it never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write_file(path: str, text: str) -> None:
    """Replace a file in one step."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = "%s.%d.new" % (path, os.getpid())
    with open(temporary, "w") as file:
        file.write(text)
    os.replace(temporary, path)


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def stdin_ended(seconds: float) -> bool:
    """Wait so long, or less: tell whether pi has gone. It sends nothing after the request."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 4096)


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True

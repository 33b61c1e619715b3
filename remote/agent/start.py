"""Start a model: reserve a place, download, launch vLLM, watch it until it answers."""

import contextlib
import os
import re
import signal
from functools import partial
from typing import Any, Callable, Dict, List, NoReturn, Optional, Set

from agent import home, phases, ports, processes, records, vllm_versions, wire
from agent.home import LOGS, PI
from agent.processes import MARKER
from agent.wire import Json, Refused

LIB = os.path.join(PI, "lib")
FIRST_PORT = 8001  # PI_FIRST_PORT moves it for embedded pods, which share one machine
LAUNCHES = 3  # each but the first on another port, should a stranger have taken ours


def start(
    uid: str,
    name: str,
    model: str,
    arguments: List[str],
    environment: Dict[str, str],
    download_environment: Dict[str, str],
    gpus: List[int],
    beside: List[str],
    known: List[Json],
    middleware: str,
    download: bool,
    wait: bool,
    devices: Optional[Dict[str, str]] = None,
    memory: Optional[float] = None,
    min_vllm: Optional[str] = None,
    own: bool = False,
    size: Optional[int] = None,
    revision: Optional[str] = None,
    pod: str = "",
    private: bool = False,
) -> Json:
    """Reserve a port and GPUs, download, start vLLM, and (with `wait`) watch it until `/health` answers.

    pi has chosen `gpus` seeing only the models `beside` on them, and `memory`, the share of each that this one takes:
    should somebody else have come meanwhile, it has to choose again. `known` are the models pi has in its own list for
    this pod: they count as taken too. `devices` are CUDA's names for GPUs where a number is none: MIG slices have
    UUIDs. Where the default vLLM is older than `min_vllm`, a newer one that is there serves. The Hub token is in
    `download_environment` only: the server has no use for it. The user's `own` arguments stay as they are. `size` is
    that of the download, in bytes, if pi knows it; `revision` is the one that the arguments name; `pod` is what pi
    calls this pod. A `private` model listens on the loopback only.
    """
    vllm = vllm_versions.choose(min_vllm)
    settings = dict(vllm.settings(home.pod_environment()), **{MARKER: uid})
    first_port = int(settings.get("PI_FIRST_PORT", FIRST_PORT))
    about = {"uid": uid, "name": name, "model": model, "arguments": arguments, "memory": memory, "vllm": vllm.version}
    about["private"] = private
    place = reserve(about, gpus, beside, known, first_port)
    try:
        require_log(place["log"])
        folder = os.path.expanduser(model)
        if download:
            from agent.download import fetch  # sent along for this operation only

            told = fetch.fetch(
                place, dict(settings, **download_environment), own=own, size=size, pod=pod, revision=revision
            )
            environment, folder = dict(environment, **told.environment), told.folder
        if not own:
            from agent import weights

            place["arguments"] = about["arguments"] = arguments + weights.reading_ahead(folder, arguments, vllm)
        for _ in range(LAUNCHES):
            pid = launch(place, dict(settings, **environment), middleware, devices or {})
            if not wait:
                return dict(place, state="launched")
            end = watch(uid, place, partial(exit_status, pid))
            if end["state"] != "exited" or not lost_its_port(place["log"]):
                break
            place = reserve(about, gpus, beside, known, first_port)
    except BaseException:
        records.forget(uid)
        raise
    return end


def reserve(about: Json, gpus: List[int], beside: List[str], known: List[Json], first_port: int = FIRST_PORT) -> Json:
    """Write the record that holds a name, a port and GPUs for us."""
    with records.locked():
        living = [record for record in records.living() if record["uid"] != about["uid"]]
        recorded = {record["uid"] for record in living}
        others = living + [each for each in known if each["uid"] not in recorded and processes.find_unmarked(each)]
        for other in others:
            if other["name"] == about["name"]:
                raise Refused("name-taken", "`%s` already runs here (port %d)" % (other["name"], other["port"]))
        here = {other["name"] for other in others if records.gpus_of(other) & set(gpus)}
        if here != set(beside):
            raise Refused("gpus-taken", "other models are on these GPUs now: %s" % (", ".join(sorted(here)) or "none"))
        ports = {int(other["port"]) for other in others + known if other["name"] != about["name"]}
        record = dict(
            about,
            port=free_port(ports, first_port),
            gpu=",".join(map(str, gpus)),
            pid=0,
            start=0,
            boot=home.boot_id(),
            since=home.uptime(),
            log=os.path.join(LOGS, about["name"] + ".log"),
        )
        records.write(record)
    wire.emit(event="placed", port=record["port"], gpu=record["gpu"], log=record["log"])
    return record


def require_log(path: str) -> None:
    """Raise `OSError` where vLLM could write nothing into its log: before a download, which may take an hour."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    trial = path + ".trial"
    try:
        with open(trial, "wb", buffering=0) as file:
            file.write(bytes(4096))  # a disk that is full still lets files be made
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)


def free_port(taken: Set[int], first: int) -> int:
    """Return the first port that neither a model holds nor anybody else on the machine has."""
    for port in range(first, 65536):
        if port not in taken and ports.is_free(port):
            return port
    raise Refused("no-port", "no free port")


def launch(record: Json, settings: Dict[str, str], middleware: str, devices: Dict[str, str]) -> int:
    """Start vLLM in its own session, its record written before it runs. Return its PID."""
    settings["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts: CUDA by itself puts the fastest GPU first
    settings["CUDA_VISIBLE_DEVICES"] = ",".join(devices.get(gpu, gpu) for gpu in record["gpu"].split(","))
    # vLLM renames its engine and workers with setproctitle, which writes the title over the process's environment:
    # the marker would be gone from /proc (measured on 0.32). So it is told to leave the environment alone.
    settings["SPT_NOENV"] = "1"
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, [LIB, settings.get("PYTHONPATH")]))
    home.write_file(os.path.join(LIB, "require_key.py"), middleware)
    program = home.find_program("vllm", settings)
    command = [program, "serve", record["model"], "--served-model-name", record["name"]]
    host = "127.0.0.1" if record["private"] else "0.0.0.0"
    command += ["--host", host, "--port", str(record["port"]), "--middleware", "require_key.RequireKey"]
    command += record["arguments"]
    log = open_log(record["log"])
    gate, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(command, settings, log, gate, go)
    record.update(pid=pid, start=processes.start_time(pid), since=home.uptime())
    records.write(record)
    os.write(go, b"!")
    for descriptor in (log, gate, go):
        os.close(descriptor)
    wire.emit(event="launched", pid=pid)
    return pid


def open_log(path: str) -> int:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, path + ".1")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def become(command: List[str], settings: Dict[str, str], log: int, gate: int, go: int) -> NoReturn:
    """Turn this child into vLLM once our parent has written the record; end if it dies before that."""
    try:
        os.close(go)
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a child would inherit that
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if os.read(gate, 1):
            os.closerange(3, 4096)
            os.execve(command[0], command, settings)
    except OSError as error:
        os.write(2, ("cannot run %s: %s\n" % (command[0], error)).encode())
    finally:
        os._exit(127)


def watch(uid: str, record: Json, ended: Callable[[], Optional[Json]], *, from_launch: bool = True) -> Json:
    """Pass on the log until the model answers `/health`, or has `ended`, or nobody listens any more.

    Phases are told with the seconds since the launch, but for those that were over before we came.
    """
    seen = phases.Phases()
    with open(record["log"], "rb") as log:
        while True:
            status = ended()
            pass_on(log, seen, since=record["since"] if from_launch else None)
            from_launch = True
            if status is not None:
                processes.end([uid], grace=2.0)
                pass_on(log, seen)
                records.forget(uid)
                return dict(record, state="exited", **status)
            listening = ports.listening_sockets()  # a cheap look before the one at every process
            is_open = record["port"] in listening
            if is_open and ports.health(record["port"], processes.marked().get(uid, []), listening) == 200:
                return dict(record, state="healthy", took=home.uptime() - record["since"])
            if wire.stdin_ended(home.TICK):
                wire.leave()


def attach(name: str) -> Json:
    """Watch a model that somebody else has started, from the beginning of its log, as `start` does."""
    uid = records.uid_of(name) or ""
    record = wait_for_launch(uid, name)
    wire.emit(event="launched", pid=record["pid"])

    def ended() -> Optional[Json]:
        return None if processes.start_time(record["pid"]) == record["start"] else {"code": None, "signal": None}

    return watch(uid, record, ended, from_launch=False)


def wait_for_launch(uid: str, name: str) -> Json:
    """Return the record of a model once vLLM is launched, telling how far the download is until then."""
    is_placed = False
    while True:
        found = [record for record in records.living() if record["uid"] == uid]
        if not found:
            raise Refused("not-there", "`%s` does not run here" % name)
        record = found[0]
        if not is_placed:
            is_placed = True
            wire.emit(event="placed", port=record["port"], gpu=record["gpu"], log=record["log"])
        if record["pid"]:
            return record
        if record.get("progress"):
            wire.emit(event="progress", done=record["progress"][0], total=record["progress"][1])
        if wire.stdin_ended(1.0):
            wire.leave()


def lost_its_port(log: str) -> bool:
    """Tell whether vLLM has died of that; others may say so in passing."""
    return re.search(rb"^(\([^()]*\) )?OSError: \[Errno 98\]", home.read_bytes(log), re.MULTILINE) is not None


def exit_status(pid: int) -> Optional[Json]:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    if os.WIFSIGNALED(status):
        return {"code": None, "signal": os.WTERMSIG(status)}
    return {"code": os.WEXITSTATUS(status), "signal": None}


def pass_on(log: Any, seen: phases.Phases, since: Optional[float] = None) -> None:
    while True:
        chunk = log.read(65536)
        if not chunk:
            return
        wire.emit(event="log", text=chunk.decode("utf-8", "replace"))
        phase = seen.feed(chunk)
        if phase:
            wire.emit(event="phase", text=phase, at=None if since is None else home.uptime() - since)

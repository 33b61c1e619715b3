"""Start a model: reserve a port and GPUs, download, launch vLLM."""

import contextlib
import os
import re
import signal
from functools import partial
from typing import TYPE_CHECKING, Dict, List, NoReturn, Optional, Set, Union

from agent import (
    arguments,
    home,
    lockless,
    machine,
    place,
    ports,
    processes,
    records,
    serve_command,
    variables,
    vllm_versions,
    watch,
    wire,
)
from agent.machine import LOGS
from agent.processes import MARKER
from agent.watch import Exit
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

LIB = os.path.expanduser(serve_command.LIB)
FIRST_PORT: "protocol.FirstPort" = 8001  # PI_FIRST_PORT changes it for embedded pods, which share one machine
LAUNCHES = 3  # attempts, each on another port, if another program takes the chosen port


def start(request: "protocol.StartRequest") -> "protocol.StartResult":
    """Reserve a port and GPUs, download, launch vLLM, and (with `wait`) follow it until `/health` answers."""
    vllm = vllm_versions.choose(request["min_vllm"])
    require_place(vllm)
    settings = dict(vllm.settings(variables.pod_environment()), **{MARKER: request["uid"]})
    first_port = int(settings.get("PI_FIRST_PORT", FIRST_PORT))
    record = reserve(request, vllm.version, first_port)
    try:
        require_log(record["log"])
        environment, folder = request["environment"], os.path.expanduser(request["model"])
        with arguments.asked(record, request, settings) as question:
            if request["download"]:
                from agent.download import fetch  # sent for this operation only

                fetched = fetch.fetch(record, request, dict(settings, **request["download_environment"]), question)
                environment, folder = dict(environment, **fetched.environment), fetched.folder
            question.settle()
        if not request["own"]:
            from agent import weights

            record["arguments"] = record["arguments"] + weights.reading_ahead(folder, record["arguments"], vllm)
        for _ in range(LAUNCHES):
            pid = launch(record, dict(settings, **environment), request)
            if not request["wait"]:
                return {"state": "launched", "record": record, "took": None, "code": None, "signal": None}
            end = watch.watch(record, partial(exit_status, pid))
            if end["state"] != "exited" or not lost_its_port(record["log"]):
                break
            record = dict(reserve(request, vllm.version, first_port), arguments=record["arguments"])  # type: ignore[assignment]
    except BaseException:
        records.forget(request["uid"])
        raise
    return end


def reserve(
    request: "protocol.StartRequest", vllm: Optional[str] = None, first_port: int = FIRST_PORT
) -> "protocol.Record":
    """Write the record that reserves a name, a port and GPUs."""
    name, known = request["name"], request["known"]
    with records.locked() as refused:
        machine.claim()
        living = [record for record in records.living() if record["uid"] != request["uid"]]
        recorded = {record["uid"] for record in living}
        others: "List[Union[protocol.Record, protocol.KnownModel]]" = list(living)
        others += [model for model in known if model["uid"] not in recorded and processes.find_unmarked(model)]
        for other in others:
            if other["name"] == name:
                raise Refused({"code": "name-taken", "name": name, "port": other["port"]})
        beside = {other["name"] for other in others if records.gpus_of(other) & set(request["gpus"])}
        if beside != set(request["beside"]):
            raise Refused({"code": "gpus-taken", "names": sorted(beside)})
        taken = {other["port"] for other in [*others, *known] if other["name"] != name}
        record: "protocol.Record" = {
            "protocol": records.VERSION,
            "uid": request["uid"],
            "name": name,
            "model": request["model"],
            "arguments": request["arguments"],
            "memory": request["memory"],
            "vllm": vllm,
            "private": request["private"],
            "port": free_port(taken, first_port),
            "gpu": ",".join(map(str, request["gpus"])),
            "pid": 0,
            "start": 0,
            "boot": home.boot_id(),
            "machine": machine.ID,
            "since": home.uptime(),
            "log": os.path.join(LOGS, name + ".log"),
            "dated": True,
        }
        records.write(record)
    if refused:
        wire.emit({"event": "lock-elsewhere", "path": refused})
    wire.emit({"event": "placed", "port": record["port"], "gpu": record["gpu"], "log": record["log"]})
    return record


def require_place(vllm: vllm_versions.Vllm) -> None:
    """Refuse if vLLM was on another disk and is gone with what was there: a stop may have erased it."""
    if place.chosen() and not os.path.isdir(vllm.path):
        raise Refused({"code": "not-set-up", "program": "vllm", "path": place.root()})


def require_log(path: str) -> None:
    """Raise `OSError` if vLLM could not write its log: before a download, which may take an hour."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    trial = path + ".trial"
    try:
        with os.fdopen(home.create(trial), "wb", buffering=0) as file:
            file.write(bytes(4096))  # on a full disk, an empty file can still be created
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(trial)


def free_port(taken: Set[int], first: int) -> int:
    """Return the first port that no model and no other program uses."""
    for port in range(first, 65536):
        if port not in taken and ports.is_free(port):
            return port
    raise Refused({"code": "no-port"})


def launch(record: "protocol.Record", settings: Dict[str, str], request: "protocol.StartRequest") -> int:
    """Start vLLM in a session of its own, after its PID is in the record. Return the PID."""
    python_path = settings.get("PYTHONPATH", "")
    caches = [machine.PLACE, settings.get("VLLM_CACHE_ROOT", machine.PLACE)]
    if any(lockless.refuses_locks(folder) for folder in caches):
        python_path = lockless.settings(python_path)["PYTHONPATH"]
    settings.update(serve_command.settings(record["gpu"], request["devices"], lib=LIB, python_path=python_path))
    home.write_file(os.path.join(LIB, "require_key.py"), wire.unpacked(request["middleware"]))
    command = serve_command.argv(
        record["model"],
        record["name"],
        record["arguments"],
        port=record["port"],
        private=record["private"],
        program=home.find_program("vllm", settings),
    )
    log = open_log(record["log"])
    gate, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        become(command, settings, log, gate, go)
    record["pid"], record["start"], record["since"] = pid, processes.start_time(pid), home.uptime()
    records.write(record)
    os.write(go, b"!")
    for descriptor in (log, gate, go):
        os.close(descriptor)
    wire.emit({"event": "launched", "pid": pid})
    return pid


def open_log(path: str) -> int:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, path + ".1")
    return home.create(path, os.O_APPEND)


def become(command: List[str], settings: Dict[str, str], log: int, gate: int, go: int) -> NoReturn:
    """Become vLLM in this child process once the parent has written the record; exit if the parent dies before that."""
    try:
        os.close(go)
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores SIGPIPE, and vLLM would inherit that
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        if os.read(gate, 1):
            os.closerange(3, 4096)
            os.execve(command[0], command, settings)
    except OSError as error:
        os.write(2, ("cannot run %s: %s\n" % (command[0], error)).encode())
    finally:
        os._exit(127)


def lost_its_port(log: str) -> bool:
    """Return whether vLLM exited because its port was taken; other log lines may mention that error too."""
    return re.search(rb"^(\([^()]*\) )?OSError: \[Errno 98\]", home.read_bytes(log), re.MULTILINE) is not None


def exit_status(pid: int) -> Optional[Exit]:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    return Exit(signal=os.WTERMSIG(status)) if os.WIFSIGNALED(status) else Exit(code=os.WEXITSTATUS(status))

"""Start a model: reserve a port and GPUs, download, launch vLLM."""

import contextlib
import os
import re
import resource
import signal
from functools import partial
from typing import TYPE_CHECKING, Dict, List, NoReturn, Optional, Set, Tuple, Union

from agent import (
    arguments,
    deaths,
    home,
    kernel_caches,
    kv_cache,
    lockless,
    machine,
    phases,
    place,
    ports,
    processes,
    records,
    serve_command,
    variables,
    vllm_versions,
    warm_up,
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
MOST_FILES = 1 << 20  # open files of vLLM; some containers allow a billion, and programs make tables of that size
LAUNCHES = 3  # attempts, each on another port, if another program takes the chosen port


def start(request: "protocol.StartRequest") -> "protocol.StartResult":
    """Reserve a port and GPUs, download, launch vLLM, and (with `wait`) follow it until `/health` answers."""
    vllm = vllm_versions.choose(request["min_vllm"])
    require_place(vllm)
    settings = dict(kernel_caches.added(vllm.settings(variables.pod_environment())), **{MARKER: request["uid"]})
    first_port = int(settings.get("PI_FIRST_PORT", FIRST_PORT))
    record = reserve(request, vllm.version, first_port)
    try:
        require_log(record["log"])
        environment, folder = request["environment"], os.path.expanduser(request["model"])
        warm = warm_up.WarmUp(record, request, settings, vllm, partial(prepared, record, request))
        with arguments.asked(record, request, settings) as question:
            if request["download"]:
                from agent.download import fetch  # sent for this operation only

                of_hf = dict(settings, **request["download_environment"])
                fetched = fetch.fetch(record, request, of_hf, question, warm)
                environment, folder = dict(environment, **fetched.environment), fetched.folder
                if fetched.commit:
                    record["commit"] = fetched.commit
            question.settle()
        across = request["across"]
        if across:
            from agent import rendezvous

            rendezvous.wait_for_others(record, folder)
        if not request["own"]:
            from agent import weights

            has_content = "PI_FREE_DISK" not in settings  # else the files are sparse: it is an embedded pod
            ahead = weights.reading_ahead(folder, record["arguments"], vllm, measure=has_content)
            record["arguments"] = record["arguments"] + ahead
            record["origins"] = record["origins"] + ["pi"] * len(ahead)
        warm.settle()
        size = kv_cache.KvCache(record, request, settings, vllm)
        for _ in range(LAUNCHES):
            memory = deaths.Watch()
            if size.known:
                wire.emit({"event": "kv-cache-known", "size": size.known.size, "at": size.known.at})
            command, variables_of_vllm = prepared(record, request, dict(settings, **environment), size.arguments())
            pid = launch(record, command, variables_of_vllm)
            if request["lease"]:
                from agent import lease_watchers  # sent for starts with a lease only

                lease_watchers.begin(record["uid"], record["name"], request["lease"], is_ready=False)
            if not request["wait"]:
                return {
                    "state": "launched",
                    "record": record,
                    "took": None,
                    "code": None,
                    "signal": None,
                    "death": None,
                }
            end = watch.watch(record, partial(exit_status, pid), memory)
            if end["state"] == "healthy":
                size.learn(record["log"])
                warm.remember()
            if end["state"] != "exited" or not (lost_its_port(record["log"]) or is_without_size(record, end, size)):
                break
            again = reserve(request, vllm.version, first_port)
            record = dict(record, port=again["port"], gpu=again["gpu"], pid=0, start=0, since=again["since"])  # type: ignore[assignment]
    except warm_up.Failed as failure:
        warm.hand_over_the_log()
        records.forget(request["uid"])
        return as_a_start(record, failure)
    except BaseException:
        records.forget(request["uid"])
        raise
    return end


def as_a_start(record: "protocol.Record", failure: warm_up.Failed) -> "protocol.StartResult":
    """Report what has ended the warm-up as the end of the start, which it would have been too."""
    wire.emit({"event": "launched", "pid": failure.pid})
    with contextlib.suppress(OSError), os.fdopen(home.open_regular(record["log"]), "rb") as log:
        watch.pass_on(log, phases.Phases())
    return {
        "state": "exited",
        "record": record,
        "took": None,
        "code": failure.code,
        "signal": None,
        "death": failure.death,
    }


def is_without_size(record: "protocol.Record", end: "protocol.StartResult", size: kv_cache.KvCache) -> bool:
    """Forget the known size of the KV cache if a start has failed since then, maybe for it; return whether it was."""
    if end["signal"] is not None or not size.is_to_blame(record["log"]):
        return False
    size.drop()
    wire.emit({"event": "kv-cache-dropped"})
    return True


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
            "origins": request["origins"],
            "variables": request["variables"],
            "given": request["given"],
        }
        across = request["across"]
        if across:
            record["role"], record["peers"] = across["role"], across["peers"]
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


def prepared(
    record: "protocol.Record",
    request: "protocol.StartRequest",
    settings: Dict[str, str],
    more: List[str],
    port: Optional[int] = None,
) -> Tuple[List[str], Dict[str, str]]:
    """Return the command of vLLM with more arguments, and its whole environment; write its middleware.

    With a `port`, it is on that of the loopback instead of the model's own.
    """
    python_path = settings.get("PYTHONPATH", "")
    caches = [machine.PLACE, settings.get("VLLM_CACHE_ROOT", machine.PLACE)]
    if any(lockless.refuses_locks(folder) for folder in caches):
        python_path = lockless.settings(python_path)["PYTHONPATH"]
    of_command = serve_command.settings(record["gpu"], request["devices"], lib=LIB, python_path=python_path)
    settings = dict(settings, **of_command)
    across = request["across"]
    if across:  # a variable that the user gives counts more than what pi has found out
        settings.update(dict(serve_command.network(across), **request["environment"]))
    home.write_file(os.path.join(LIB, "require_key.py"), wire.unpacked(request["middleware"]))
    command = serve_command.argv(
        record["model"],
        record["name"],
        record["arguments"] + more,
        port=port or record["port"],
        private=record["private"] or port is not None,
        program=home.find_program("vllm", settings),
        across=across,
    )
    return command, settings


def launch(record: "protocol.Record", command: List[str], settings: Dict[str, str]) -> int:
    """Start vLLM in a session of its own, after its PID is in the record. Return the PID."""
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
            raise_limit_of_open_files()
            os.closerange(3, 4096)
            os.execve(command[0], command, settings)
    except OSError as error:
        os.write(2, ("cannot run %s: %s\n" % (command[0], error)).encode())
    finally:
        os._exit(127)


def raise_limit_of_open_files() -> None:
    """Allow this process as many open files as it may have: each connection of a client is one.

    Many machines begin with 1024. vLLM itself wants 65,536, and leaves the limit as it is where it may not have them.
    """
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def lost_its_port(log: str) -> bool:
    """Return whether vLLM exited because its port was taken; other log lines may mention that error too."""
    return re.search(rb"^(\([^()]*\) )?OSError: \[Errno 98\]", home.read_bytes(log), re.MULTILINE) is not None


def exit_status(pid: int) -> Optional[Exit]:
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        return None
    return Exit(signal=os.WTERMSIG(status)) if os.WIFSIGNALED(status) else Exit(code=os.WEXITSTATUS(status))

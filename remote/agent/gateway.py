"""The balancer of `pi gateway --on POD`: started like a model, with a record and the marker, in front of engines that
this pod can reach at private addresses.

An engine is first asked to prove that it is the model that pi knows (see `remote/require_key.py`), on a connection on
which the key is sent only then; it has to refuse a wrong key and to accept the right one.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Dict, List, Optional

from agent import ending, home, machine, ports, processes, records, variables, wire
from agent.home import PI
from agent.machine import LOGS
from agent.processes import MARKER
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

FIRST_PORT: "protocol.FirstPort" = 8001
FOLDER = os.path.join(PI, "gateway")
REACH_TIMEOUT = 5.0  # seconds for one answer of an engine
READY_TIMEOUT = 60.0  # seconds until the balancer answers
INSTALL_TIMEOUT = 1800.0  # seconds
MAX_ANSWER = 1 << 16  # bytes
MAX_METRICS = 1 << 20  # bytes
DRAIN_PAUSE = 0.25  # seconds between two looks whether the answers in progress are complete
SURE = 2  # looks in a row without a request in progress: one that was just accepted is counted at the next
COUNTED = re.compile(r'^smg_worker_(health|requests_active)\{worker="([^"\n]{1,300})"[^}\n]{0,300}\} (\d{1,9})', re.M)
WRONG_KEY = "this-is-not-the-key-of-any-model"
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")  # no proxy: it would look for its workers there


def gateway(request: "protocol.GatewayRequest") -> "protocol.GatewayResult":
    """Start a gateway on this pod, or write the manifest of the one that runs anew."""
    current = running(request["name"])
    is_start = request["action"] == "start"
    if not is_start and current is None:
        raise Refused({"code": "not-there", "name": request["name"]})
    if is_start and current is not None:
        raise Refused({"code": "name-taken", "name": request["name"], "port": current["port"]})
    if request["action"] == "leave" and current is not None:
        leave(current, [engine["id"] for engine in request["engines"]], request["seconds"])
        return {"state": "running", "port": current["port"], "workers": []}
    settings = variables.pod_environment()
    python = require_balancer(request, settings) if is_start else ""
    workers = probed(request)
    usable = {worker["id"]: worker["url"] for worker in workers if worker["url"]}
    state: "protocol.GatewayState" = "running"
    if not usable:
        state = "nothing"
    elif current is not None:
        with records.locked():
            write_manifest(current["uid"], dict(others_of(current, request, usable), **usable))
    else:
        current = start(request, python, settings, usable)
        state = "running" if current["pid"] else "exited"
    return {"state": state, "port": current["port"] if current else None, "workers": workers}


def others_of(record: "protocol.Record", request: "protocol.GatewayRequest", usable: Dict[str, str]) -> Dict[str, str]:
    """Return the engines that stay in the manifest when these are added; none at the same address as a new one."""
    if request["action"] != "add":
        return {}
    return {id: url for id, url in manifest(record["uid"]).items() if url not in usable.values()}


def leave(record: "protocol.Record", ids: List[str], seconds: float) -> None:
    """Take engines out of a manifest for which the balancer has others, and wait for the answers in progress."""
    deadline, quiet = home.uptime() + seconds, 0
    if not has_others(record, ids, deadline):
        return
    with records.locked():
        before = manifest(record["uid"])
        leaving = {id: url for id, url in before.items() if id in ids and name_of(id) in names_without(before, ids)}
        write_manifest(record["uid"], {id: url for id, url in before.items() if id not in leaving})
    while quiet < SURE and home.uptime() < deadline:
        if wire.stdin_ended(DRAIN_PAUSE):
            with records.locked():
                write_manifest(record["uid"], dict(leaving, **manifest(record["uid"])))
            return
        active = counted(record).get("requests_active", {})
        quiet = 0 if any(active.get(url) for url in leaving.values()) else quiet + 1


def has_others(record: "protocol.Record", ids: List[str], deadline: float) -> bool:
    """Wait until the balancer uses another engine of each name that has one; return whether there are any.

    It takes seconds to use an engine that was added just now.
    """
    while home.uptime() < deadline:
        workers = manifest(record["uid"])
        expected = {name_of(id) for id in workers if id in ids} & names_without(workers, ids)
        if not expected:
            return False
        healthy = counted(record).get("health", {})
        ready = {name_of(id) for id, url in workers.items() if id not in ids and healthy.get(url)}
        if expected <= ready:
            return True
        if wire.stdin_ended(DRAIN_PAUSE):
            return False
    return False


def names_without(workers: Dict[str, str], ids: List[str]) -> "set[str]":
    return {name_of(id) for id in workers if id not in ids}


def name_of(id: str) -> str:
    return id.rpartition("/")[2]


def counted(record: "protocol.Record") -> Dict[str, Dict[str, int]]:
    """Return what the balancer counts for each engine, by its URL: `health` and `requests_active`."""
    words = record["arguments"]
    port = int(words[words.index("--prometheus-port") + 1]) if "--prometheus-port" in words else 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REACH_TIMEOUT)
    found: Dict[str, Dict[str, int]] = {}
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(MAX_METRICS).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return found
    finally:
        connection.close()
    for what, url, value in COUNTED.findall(text):
        each = found.setdefault(what, {})
        each[url] = each.get(url, 0) + int(value)
    return found


def running(name: str) -> "Optional[protocol.Record]":
    named = [record for record in records.living() if record["name"] == name]
    return named[0] if named else None


def require_balancer(request: "protocol.GatewayRequest", settings: Dict[str, str]) -> str:
    """Return the Python that has the balancer; with `install`, install it first with the pod's own uv."""
    folder = os.path.join(PI, "venvs", "%s-%s" % (request["package"], request["version"]))
    python, complete = os.path.join(folder, "bin", "python"), os.path.join(folder, ".complete")
    if os.path.exists(complete):
        return python
    if not request["install"]:
        raise Refused({"code": "not-set-up", "program": request["package"]})
    path = os.pathsep.join([os.path.join(PI, "uv", "bin"), os.path.expanduser("~/.local/bin"), settings["PATH"]])
    uv = home.find_program("uv", dict(settings, PATH=path))
    listed = os.path.join(FOLDER, "requirements.txt")
    home.write_file(listed, wire.unpacked(request["requirements"]))
    run([uv, "venv", "--quiet", "--clear", folder], settings)
    run([uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", listed], settings)
    home.write_file(complete, "")
    return python


def run(command: List[str], settings: Dict[str, str]) -> None:
    """Run an installer. Raises `OSError` with the last line of its output."""
    with subprocess.Popen(
        command, env=settings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:  # fmt: skip
        output: List[bytes] = []
        try:
            if not home.wait_until(lambda: has_ended(process, output), INSTALL_TIMEOUT):
                raise OSError(110, "it took too long", command[0])
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = b"".join(output).decode("utf-8", "replace").strip().splitlines()
        raise OSError(5, lines[-1][:500] if lines else "it failed", command[0])


def has_ended(process: "subprocess.Popen[bytes]", output: List[bytes]) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        output.append(process.communicate(timeout=1.0)[0])
        return True
    if wire.stdin_ended(0.0):
        raise OSError(4, "pi has ended", "")
    return False


def probed(request: "protocol.GatewayRequest") -> "List[protocol.GatewayWorker]":
    from concurrent import futures

    with futures.ThreadPoolExecutor(16) as pool:
        pending = [pool.submit(probe, engine, request["key"]) for engine in request["engines"]]
        while futures.wait(pending, timeout=1.0).not_done:
            wire.beat()
    return [future.result() for future in pending]


def probe(engine: "protocol.GatewayEngine", key: str) -> "protocol.GatewayWorker":
    """Return the URL at which an engine has proved to be the model and to check the key, or why there is none."""
    reason = "it has no private address"
    for host in engine["hosts"]:
        found = ask(host, engine["port"], engine["proof_keys"], key)
        if not found:
            return {"id": engine["id"], "url": "http://%s:%d" % (host, engine["port"]), "reason": None}
        reason = "at %s:%d %s" % (host, engine["port"], found)
    return {"id": engine["id"], "url": None, "reason": reason}


def ask(host: str, port: int, proof_keys: List[str], key: str) -> str:
    """Return why the server at an address is not used; nothing if it is the model."""
    connection = http.client.HTTPConnection(host, port, timeout=REACH_TIMEOUT)
    try:
        connection.connect()
        connection.auto_open = 0  # the key goes over this connection only
        nonce = os.urandom(32).hex()
        status, body = get(connection, "/.well-known/pi-model?nonce=" + nonce)
        if status != 200 or not is_proof(body, nonce, port, proof_keys):
            return "another program answers"
        if get(connection, "/v1/models", WRONG_KEY)[0] != 401:
            return "it does not refuse a wrong key"
        return "" if get(connection, "/v1/models", key)[0] == 200 else "it does not accept the key"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return "it cannot be reached: %s" % (getattr(error, "strerror", None) or str(error) or type(error).__name__)
    finally:
        connection.close()


def get(connection: http.client.HTTPConnection, path: str, key: str = "") -> "tuple[int, bytes]":
    connection.request("GET", path, headers={"Authorization": "Bearer " + key} if key else {})
    answer = connection.getresponse()
    return answer.status, answer.read(MAX_ANSWER)


def is_proof(body: bytes, nonce: str, port: int, proof_keys: List[str]) -> bool:
    proofs = json.loads(body.decode("ascii"))["proofs"]
    message = ("%s %d" % (nonce, port)).encode()
    right = [hmac.new(bytes.fromhex(each), message, hashlib.sha256).hexdigest() for each in proof_keys]
    return any(isinstance(proof, str) and hmac.compare_digest(proof, each) for proof in proofs for each in right)


def start(
    request: "protocol.GatewayRequest", python: str, settings: Dict[str, str], usable: Dict[str, str]
) -> "protocol.Record":
    """Start the balancer and wait until it answers. The PID of the record is 0 if it has ended by then."""
    record = reserve(request, int(settings.get("PI_FIRST_PORT", FIRST_PORT)))
    uid, launcher = record["uid"], os.path.join(FOLDER, "run_smg.py")
    try:
        write_manifest(uid, usable)
        words = record["arguments"] = options(request, record)
        home.write_file(launcher, wire.unpacked(request["launcher"]))
        process = launch(record, [python, "-I", launcher, *words], settings)
        record["pid"], record["start"], record["since"] = process.pid, processes.start_time(process.pid), home.uptime()
        records.write(record)
        keys = {"api_key": request["key"], "control_key": request["control_key"], "stays": True}
        assert process.stdin
        with process.stdin as stdin:  # the launcher waits for this line: the record was there first
            stdin.write(json.dumps(keys).encode() + b"\n")

        def answers() -> bool:
            return process.poll() is not None or ports.health(record["port"], processes.marked().get(uid, [])) == 200

        if not home.wait_until(answers, READY_TIMEOUT) or process.poll() is not None:
            ending.end([uid], grace=2.0)
            records.forget(uid)
            record["pid"] = 0
    except BaseException:
        ending.end([uid], grace=2.0)
        records.forget(uid)
        raise
    return record


def reserve(request: "protocol.GatewayRequest", first_port: int) -> "protocol.Record":
    """Write the record that reserves a port."""
    with records.locked():
        machine.claim()
        taken = {record["port"] for record in records.living()}
        wanted = request["port"]
        if wanted and (wanted in taken or not ports.is_free(wanted)):
            raise Refused({"code": "no-port"})
        free = (port for port in range(first_port, 65536) if port not in taken and ports.is_free(port))
        port = wanted or next(free, None)
        if port is None:
            raise Refused({"code": "no-port"})
        name = request["name"]
        record: "protocol.Record" = {
            "protocol": records.VERSION,
            "uid": request["uid"],
            "name": name,
            "model": "%s %s" % (request["package"], request["version"]),
            "kind": "gateway",
            "arguments": request["options"],
            "memory": None,
            "vllm": None,
            "private": not request["public"],
            "port": port,
            "gpu": "",
            "pid": 0,
            "start": 0,
            "boot": home.boot_id(),
            "machine": machine.ID,
            "since": home.uptime(),
            "log": os.path.join(LOGS, name + ".log"),
        }
        records.write(record)
    return record


def options(request: "protocol.GatewayRequest", record: "protocol.Record") -> List[str]:
    """Return the balancer's arguments: pi's own, and those that depend on this pod. None of them is a secret."""
    metrics = next(port for port in range(29000, 65536) if ports.is_free(port))
    host = "0.0.0.0" if request["public"] else "127.0.0.1"
    where = ["--host", host, "--port", str(record["port"]), "--discovery-file", records.manifest_of(record["uid"])]
    return [*where, "--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics), *request["options"]]


def launch(record: "protocol.Record", command: List[str], settings: Dict[str, str]) -> "subprocess.Popen[bytes]":
    os.makedirs(os.path.dirname(record["log"]), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(record["log"], record["log"] + ".1")
    # By PI_DEMO_POD, a simulated pod finds its processes.
    environment = {name: settings[name] for name in (*INHERITED, "PI_DEMO_POD") if name in settings}
    # smg writes its title over its arguments; without SPT_NOENV also over its environment, and so over the marker.
    environment.update({MARKER: record["uid"], "SPT_NOENV": "1"})
    with os.fdopen(home.create(record["log"], os.O_APPEND), "wb") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )


def manifest(uid: str) -> Dict[str, str]:
    """Return the URLs of the engines in the manifest of a gateway, by id."""
    with open(records.manifest_of(uid), encoding="utf-8") as file:
        return {worker["id"]: worker["url"] for worker in json.load(file)["workers"]}


def write_manifest(uid: str, workers: Dict[str, str]) -> None:
    listed = [{"id": id, "url": url} for id, url in sorted(workers.items())]
    home.write_file(records.manifest_of(uid), json.dumps({"version": 1, "workers": listed}))

"""A model whose work is a file, and a provider that records what it is asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pi_cli.pods import agent_program
from tests.agent.machine import Machine

KEY = "sk-of-the-model"
POD_KEY = "rpa_key_of_the_pod"
# Answers /metrics with the file `metrics` beside its log, and says nothing without it.
ENGINE = """#!{python}
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open(os.path.join(os.environ["HOME"], "asked-" + os.environ["NAME"]), "a") as file:
            file.write(self.path + "\\n")
        allowed = self.headers.get("Authorization") == "Bearer " + os.environ["VLLM_API_KEY"]
        try:
            text = open(os.path.join(os.environ["HOME"], "metrics-" + os.environ["NAME"]), "rb").read()
        except FileNotFoundError:
            text = None
        status = 200 if self.path == "/health" else 401 if not allowed else 503 if text is None else 200
        self.send_response(status)
        self.end_headers()
        if status == 200:
            self.wfile.write(text or b"")

    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def work(machine: Machine, name: str = "q", *, running: int = 0, finished: int = 0, tokens: int = 0) -> None:
    """Say what a model's counters are."""
    text = (
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting 0\n"
        f"vllm:request_success_total {finished}\nvllm:generation_tokens_total {tokens}\n"
    )
    fresh = machine.home / f"metrics-{name}.new"
    fresh.write_text(text)
    fresh.replace(machine.home / f"metrics-{name}")


def start(machine: Machine, name: str = "q", seconds: float | None = 1.0, then: str | None = None, gpu: int = 0) -> str:
    """Start a model with a lease, and return its uid."""
    wish = None if seconds is None else {"seconds": seconds, "then": then, "program": agent_program.watcher()}
    environment = {"VLLM_API_KEY": KEY, "NAME": name}
    answer = machine.start(name, environment=environment, lease=wish, gpus=[gpu])
    uid: str = answer["result"]["record"]["uid"]
    return uid


def change(machine: Machine, action: str, name: str = "", seconds: float = 1.0, then: str | None = None) -> Any:
    """Send a request about leases, and return the answer."""
    wish = {"seconds": seconds, "then": then, "program": agent_program.watcher()} if action == "set" else None
    return machine.ask("lease", action=action, name=name, wish=wish)


def ends(machine: Machine) -> list[dict[str, Any]]:
    """Return how leases have ended models, by the log on the pod."""
    lines: list[str] = []
    with suppress(FileNotFoundError):
        lines = (machine.home / ".pi" / "leases" / "ended.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def state(machine: Machine, uid: str) -> Any:
    """Return what the process that watches a model has seen."""
    return json.loads((machine.home / ".pi" / "leases" / f"{uid}.state").read_text())


def watcher(machine: Machine, uid: str) -> int:
    """Return the PID of what watches a model."""
    return int(state(machine, uid)["pid"])


@dataclass
class Provider:
    """The API of a provider, which fails as often as it is told to; `calls` are those that would have changed a pod."""

    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    failures: int = 0
    status: int = 500

    def is_asked(self, method: str, path: str, content: Any) -> tuple[int, Any]:
        is_call = method == "PUT" or "mutation" in str(content)
        if is_call:
            self.calls.append((method, path, content))
            if self.failures:
                self.failures -= 1
                return self.status, {}
        else:
            self.looks.append(path)
        pod = {"id": "abc123", "desiredStatus": "RUNNING"}
        return 200, {"success": True, "data": {"podStop": pod} if is_call else {"pod": pod}}


@contextmanager
def provider(machine: Machine, variables: str, key: str = POD_KEY) -> Iterator[Provider]:
    """Give a machine the environment of a provider's PID 1, and simulate the provider's API."""
    machine.environ["PI_MACHINE_ROOT"] = str(machine.home / "root")
    with provider_of(machine.home / "root", variables, key) as asked:
        yield asked


@contextmanager
def provider_of(root: Path, variables: str, key: str = POD_KEY) -> Iterator[Provider]:
    """The same for the folder that has the /proc of an embedded pod."""
    (root / "proc" / "1").mkdir(parents=True, exist_ok=True)
    (root / "proc" / "1" / "environ").write_text("\0".join(["PATH=/bin", *variables.split(), ""]))
    asked = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            content = json.loads(self.rfile.read(length) or b"null")
            status: int = 401
            answer: Any = None
            if self.headers.get("Authorization") == f"Bearer {key}":
                status, answer = asked.is_asked(self.command, self.path, content)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_POST = do_GET  # noqa: N815
        do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        (root / "provider").write_text(f"http://127.0.0.1:{server.server_port}")
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


RUNPOD = f"RUNPOD_POD_ID=abc123 RUNPOD_API_KEY={POD_KEY}"
VAST = f"CONTAINER_ID=4711 CONTAINER_API_KEY={POD_KEY}"


def secrets_in(folder: Path) -> list[str]:
    """Return the files below a folder that have a key in them."""
    keys = (KEY.encode(), POD_KEY.encode())
    files = [path for path in folder.rglob("*") if path.is_file() and "root" not in path.parts[-4:]]
    return [str(path) for path in files if any(key in path.read_bytes() for key in keys)]

"""A simulated vLLM in the background of an embedded pod."""

import socket
from dataclasses import dataclass
from typing import Any

import httpx2

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.demo.processes import Process
from tests.demo.conftest import ssh
from tests.until import until

KEY = "engine-key"


def tool(name: str) -> Any:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


TOOLS = [tool(name) for name in ("ls", "read", "glob", "rg")]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Model:
    """A `vllm serve` in the background, called `tiny`."""

    pod: EmbeddedPod
    port: int

    @property
    def log(self) -> str:
        return (self.pod.home / f"{self.port}.log").read_bytes().decode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def processes(self) -> list[Process]:
        return [process for process in self.pod.processes() if process.environ.get("MODEL") == str(self.port)]

    @property
    def server(self) -> Process:
        return next(process for process in self.processes if "serve" in process.command)

    def status(self, path: str = "/health") -> int | None:
        try:
            return httpx2.get(self.url + path, trust_env=False).status_code
        except httpx2.TransportError:
            return None

    def signal(self, name: str) -> None:
        ssh(self.pod, f"kill -{name} {self.server.pid}")

    def memory(self) -> list[int]:
        query = "nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits"
        return [int(line) for line in ssh(self.pod, query).text.split()]


def serve(pod: EmbeddedPod, arguments: str = "", *, environ: str = "", seconds: float = 0.2) -> Model:
    """Start a model as the agent does, detached and with its log in a file."""
    model = Model(pod, free_port())
    command = f"vllm serve tiny/model --served-model-name tiny --host 127.0.0.1 --port {model.port}"
    command += f" --simulate slow={seconds} {arguments}"
    ssh(pod, f"MODEL={model.port} {environ} setsid --fork {command} > {model.port}.log 2>&1 < /dev/null")
    return model


def ready(pod: EmbeddedPod, arguments: str = "", *, environ: str = "") -> Model:
    model = serve(pod, arguments, environ=environ)
    until(lambda: model.status() == 200)
    return model

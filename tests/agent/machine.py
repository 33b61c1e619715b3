"""This machine as a pod: the agent runs in a home folder of its own, fed to python3 as pi does it."""

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pi_cli.pods import agent_program, shell
from pi_cli.pods.agent_link import MARK_BYTES as MARK
from tests import executables

if TYPE_CHECKING:
    from agent import protocol

SLEEPER = "#!/bin/sh\nexec sleep 300\n"


class Machine:
    """A home folder with executables, in which the agent runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ: dict[str, str] = {}  # variables of the machine, beside HOME and PATH
        self.install("vllm", SLEEPER)
        self.install("hf", "#!/bin/sh\nexit 0\n")
        self.install("nvidia-smi", "#!/bin/sh\nexit 9\n")

    def install(self, name: str, script: str) -> None:
        executables.put(self.home / "venv" / "bin" / name, script)

    def open(
        self, operation: str, *, beat: float = 1000.0, stays: bool = False, **request: Any
    ) -> "subprocess.Popen[bytes]":
        """Send a request; the agent's stdin stays open."""
        envelope = {"protocol": 1, "operation": operation, "beat": beat, "request": request, "stays": stays}
        program = agent_program.packed(agent_program.LEASED_START if request.get("lease") else operation)
        process = subprocess.Popen(
            ["bash", "-c", shell.AGENT],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"], **self.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(b"%d\n%s%s\n" % (len(program), program, json.dumps(envelope).encode()))
        process.stdin.flush()
        return process

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Run a request to its end and return the last message."""
        with self.open(operation, **request) as process:
            assert process.stdout is not None
            return messages(process.stdout.read())[-1]

    def survey(self) -> dict[str, Any]:
        return self.ask("survey", known=[], forget=True, memory=True, live=False)

    def start(self, name: str = "q", **changes: Any) -> dict[str, Any]:
        return self.ask("start", **start_request(name) | changes)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.home / ".pi" / "models").glob("*.json")]


def start_request(name: str) -> Any:
    request: protocol.StartRequest = {
        "uid": uuid.uuid4().hex,
        "name": name,
        "model": "m/m",
        "arguments": [],
        "origins": [],
        "variables": {},
        "given": [],
        "own": False,
        "environment": {},
        "download_environment": {},
        "gpus": [0],
        "devices": {},
        "beside": [],
        "memory": None,
        "known": [],
        "middleware": agent_program.compressed(""),
        "parser": agent_program.compressed(""),
        "min_vllm": None,
        "download": False,
        "size": None,
        "revision": None,
        "pod": "",
        "private": False,
        "lease": None,
        "wait": False,
        "across": None,
        "gpu_state": None,
        "warm_up": True,
    }
    return request


def known(name: str, uid: str | None = None, *, pid: int = 0, port: int = 0, gpu: str = "") -> "protocol.KnownModel":
    """Return a model of pi's own list."""
    return {"name": name, "uid": uid, "pid": pid, "port": port, "gpu": gpu}


def messages(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.partition(MARK)[2]) for line in output.splitlines() if MARK in line]


def environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""

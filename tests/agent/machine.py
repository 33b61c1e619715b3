"""A machine that is its own pod: the agent, fed to python3 as pi does it, in a home folder of its own."""

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

from pi_cli.pods import agent, agent_program, shell
from tests import executables

SLEEPER = "#!/bin/sh\nexec sleep 300\n"


class Machine:
    """A home folder with executables, in which the agent runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.install("vllm", SLEEPER)
        self.install("hf", "#!/bin/sh\nexit 0\n")
        self.install("nvidia-smi", "#!/bin/sh\nexit 9\n")

    def install(self, name: str, script: str) -> None:
        executables.put(self.home / "venv" / "bin" / name, script)

    def open(self, operation: str, **request: Any) -> "subprocess.Popen[bytes]":
        """Begin a request; the agent's stdin stays open."""
        program = agent_program.pack((name, agent_program.source(name)) for name in agent_program.MODULES)
        opened = subprocess.Popen(
            ["bash", "-c", shell.AGENT],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert opened.stdin is not None
        opened.stdin.write(
            b"%d\n%s%s\n" % (len(program), program, json.dumps({"operation": operation} | request).encode())
        )
        opened.stdin.flush()
        return opened

    def ask(self, operation: str, **request: Any) -> dict[str, Any]:
        """Run a request to its end and return the last message."""
        with self.open(operation, **request) as opened:
            assert opened.stdout is not None
            return messages(opened.stdout.read())[-1]

    def start(self, name: str = "q", **changes: Any) -> dict[str, Any]:
        return self.ask("start", **start_request(name) | changes)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in (self.home / ".pi" / "models").glob("*.json")]


def start_request(name: str) -> dict[str, Any]:
    return {
        "uid": uuid.uuid4().hex,
        "name": name,
        "model": "m/m",
        "arguments": [],
        "environment": {},
        "download_environment": {},
        "gpus": [0],
        "beside": [],
        "known": [],
        "middleware": "",
        "download": False,
        "wait": False,
    }


def messages(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line.partition(agent.MARK)[2]) for line in output.splitlines() if agent.MARK in line]


def environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""

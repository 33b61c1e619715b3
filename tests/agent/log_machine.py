"""A machine on which the tests write the models' logs, and the agent's output about these logs."""

import json
import os
import signal
import subprocess
import uuid
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pi_cli.pods import agent_link, agent_program, shell
from tests.agent.machine import Machine
from tests.until import until

RESULT = b'{"result": {}}\n'


class LogReader:
    """The agent's output about logs so far, per source: the bytes, the events, and the position pi would remember."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin
        assert process.stdout
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout
        self.raw = b""
        self.has_begun = False
        self.beats = 0
        self._text: defaultdict[int, bytes] = defaultdict(bytes)
        self._events: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        self.positions: dict[int, dict[str, Any]] = {}
        os.set_blocking(self.stdout.fileno(), False)

    def look(self) -> Self:
        """Read the output that has arrived."""
        while chunk := self.stdout.read(1 << 20):
            self.raw += chunk
        if not self.has_begun and RESULT in self.raw:
            self.has_begun, self.raw = True, self.raw.partition(RESULT)[2]
        while self.has_begun and len(self.raw) >= agent_link.HEADER.size:
            kind, source, length, offset = agent_link.HEADER.unpack_from(self.raw)
            if len(self.raw) < agent_link.HEADER.size + length:
                break
            payload, self.raw = self.raw[agent_link.HEADER.size :][:length], self.raw[agent_link.HEADER.size + length :]
            if kind == agent_link.BEAT:
                self.beats += 1
                continue
            if kind:
                event = json.loads(payload)
                self._events[source].append(event)
                self.positions[source] = event["file"]
            else:
                self._text[source] += payload
            self.positions[source] = self.positions[source] | {"offset": offset}
        return self

    def text(self, source: int = 0) -> bytes:
        return self.look()._text[source]

    def events(self, source: int = 0) -> list[str]:
        """Return the events, without those that only update the identity of a file."""
        return [event["event"] for event in self.look()._events[source] if event["event"] != "grown"]

    def first(self, source: int = 0) -> dict[str, Any]:
        until(lambda: self.events(source))
        return self._events[source][0]

    def position(self, source: int = 0) -> dict[str, Any]:
        return self.look().positions[source]

    def until_text(self, expected: bytes, source: int = 0) -> None:
        until(lambda: len(self.text(source)) >= len(expected), f"{expected[-200:]!r} has arrived")
        assert self.text(source) == expected


def _without_ctypes() -> bytes:
    """Return the program for reading logs, with a `ctypes` that has nothing in it."""
    modules = [name for name, needing in agent_program.MODULES.items() if needing is None or "logs" in needing]
    return agent_program.pack([("ctypes", ""), *((name, agent_program.source(name)) for name in modules)])


class LogMachine(Machine):
    """A machine with models that print nothing themselves: the tests write their logs."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        super().__init__(home)
        self.folder = home / ".vllm_logs"
        self.uids: dict[str, str] = {}
        self._stack = stack

    def log(self, name: str = "q") -> Path:
        return self.folder / f"{name}.log"

    def write(self, data: bytes, name: str = "q") -> None:
        with self.log(name).open("ab") as file:
            file.write(data)

    def launch(self, name: str = "q", *, gpu: int = 0) -> None:
        """Start a model as pi does it, which rotates its log."""
        answer = self.start(name, gpus=[gpu])
        self.uids[name] = answer["result"]["record"]["uid"]

    def run(self, name: str = "q") -> None:
        """Run a model as the agent leaves it, with an empty log and a record, at a fraction of the cost."""
        uid = self.uids[name] = uuid.uuid4().hex
        process = self._stack.enter_context(
            subprocess.Popen(["sleep", "300"], env={"PI_MODEL_UID": uid}, start_new_session=True)
        )
        self._stack.callback(process.kill)
        self.log(name).touch()
        path = self.home / ".pi" / "models" / f"{uid}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"uid": uid, "name": name, "port": 1, "gpu": "0", "pid": process.pid, "since": 1}))

    def kill(self, name: str = "q") -> None:
        """Kill a model as a crash would: its record stays."""
        [record] = [record for record in self.records() if record["uid"] == self.uids[name]]
        os.kill(record["pid"], signal.SIGKILL)

    def read(
        self,
        *names: str,
        positions: list[dict[str, Any] | None] | None = None,
        without_ctypes: bool = False,
        beat: float = 1000.0,
        **changes: Any,
    ) -> LogReader:
        """Begin to read logs; the reader is stopped at the end of the test."""
        names = names or ("q",)
        sources = [
            {"name": name, "uid": self.uids.get(name), "pid": 0, "port": 0, "gpu": "", "position": position}
            for name, position in zip(names, positions or [None] * len(names), strict=True)
        ]
        program = _without_ctypes() if without_ctypes else agent_program.packed("logs")
        request = {
            "sources": sources,
            "lines": None,
            "since": None,
            "grep": None,
            "follow": True,
            "looks": True,
        } | changes
        line = json.dumps({"protocol": 1, "operation": "logs", "beat": beat, "request": request}).encode()
        process = subprocess.Popen(
            ["bash", "-c", shell.AGENT],
            env={"HOME": str(self.home), "PATH": os.environ["PATH"]} | {"TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._stack.enter_context(process)
        self._stack.callback(process.kill)
        assert process.stdin
        process.stdin.write(b"%d\n%s%s\n" % (len(program), program, line))
        process.stdin.flush()
        return LogReader(process)

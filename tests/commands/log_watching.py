"""Models that say what the tests write, and pi watching their logs."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pi_cli.demo.owner import MARKER
from pi_cli.demo.pod import EmbeddedPod
from tests.forkserver import FORKSERVER, Process
from tests.lab.relay import Relay
from tests.until import until


class Speaker:
    """A model on a pod that does nothing but live, and whose log the tests write."""

    def __init__(self, pod: EmbeddedPod, name: str) -> None:
        self.name, self.uid = name, uuid.uuid4().hex
        self.log = pod.home / ".vllm_logs" / f"{name}.log"
        self.log.parent.mkdir(exist_ok=True)
        marks = {"PI_MODEL_UID": self.uid, MARKER: str(pod.key.parent)}
        self._process = subprocess.Popen(["sleep", "300"], env=os.environ | marks)
        record = {"uid": self.uid, "name": name, "port": 1, "gpu": "0", "pid": self._process.pid, "since": 1}
        path = pod.home / ".pi/models" / f"{self.uid}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        self.say(b"")

    def say(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    def die(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def speaking(pod: EmbeddedPod, name: str = "q", *, on: str = "dc1", said: bytes = b"") -> Iterator[Speaker]:
    """Let a model run, and pi know it."""
    speaker = Speaker(pod, name)
    speaker.say(said)
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    entry = {"model": "m/m", "port": 1, "gpu": "0", "pid": 1, "uid": speaker.uid}
    state["pods"][on]["models"][name] = entry
    path.write_text(json.dumps(state))
    try:
        yield speaker
    finally:
        speaker.die()


class Watching:
    """`pi logs` at work; what it has written is read as it comes."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._said = {stream: b"" for stream in (process.stdout, process.stderr) if stream}
        for stream in self._said:
            os.set_blocking(stream.fileno(), False)

    @property
    def out(self) -> bytes:
        return self._read(self.process.stdout)

    @property
    def err(self) -> str:
        return self._read(self.process.stderr).decode()

    def until_out(self, expected: bytes, *, seconds: float = 30) -> None:
        try:
            until(lambda: len(self.out) >= len(expected), seconds=seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{len(self.out)} of {len(expected)} bytes; stderr: {self.err}") from error
        assert self.out == expected

    def until_err(self, expected: str, *, seconds: float = 30) -> None:
        until(lambda: expected in self.err, expected, seconds=seconds)

    def _read(self, stream: IO[bytes] | None) -> bytes:
        assert stream
        while not stream.closed and (chunk := stream.read(1 << 20)):
            self._said[stream] += chunk
        return self._said[stream]


@contextmanager
def watching(*words: str, **environ: str) -> Iterator[Watching]:
    """Run `pi logs`, and end it with the block."""
    with FORKSERVER.start(["logs", *words], text=False, environ=os.environ | environ) as process:
        try:
            yield Watching(process)
        finally:
            process.kill()


def readers(pod: EmbeddedPod) -> list[int]:
    """Return the PIDs of what pi's commands run on a pod, but for models."""
    return [each.pid for each in pod.processes() if "PI_MODEL_UID" not in each.environ]


@contextmanager
def way_to(pod: EmbeddedPod, name: str, **faults: Any) -> Iterator[Relay]:
    """Let a registered pod be reached through a relay with these faults."""
    with Relay(pod.address, pod.port, **faults) as way:
        path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
        state = json.loads(path.read_text())
        state["pods"][name]["ssh"] = pod.ssh.replace(f"-p {pod.port}", f"-p {way.port}")
        path.write_text(json.dumps(state))
        yield way

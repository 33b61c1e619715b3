"""Where it is measured: a user of its own, and a pod with a real sshd that goes by many names."""

import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pi_cli.pods import agent_program, shell
from tests.bench.measure import run
from tests.lab import base_root, prepared
from tests.lab.openssh import OpensshLab, OpensshPod
from tests.until import until

ROOT = Path(__file__).parent.parent.parent
PACKAGES = (*base_root.WITH_PYTHON, "curl")
MOST_PODS = 64
HOLDING = 30.0  # seconds until all links are held
BUSY = "busy"
FIRST_PORT, LAST_PORT = 8001, 9999
FIRST_SPARE_PORT = 9001  # of models that are started to be stopped
KEY = "a-key-for-a-benchmark"
GPU = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
CONFIG = """\
Host {pattern}
  HostName {address}
  User root
  IdentityFile {key}
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
"""


class Place:
    """A home with `pods.json` and an ssh configuration. The machines are started when something asks for them.

    `pod-1` to `pod-64` are all the same machine, on which nothing runs, each known by a name of its own as 64 machines
    would be. `busy` is another one, for models.
    """

    python = sys.executable
    pi = str(Path(sys.executable).with_name("pi"))

    def __init__(self) -> None:
        self._open = ExitStack()
        self._lab: OpensshLab | None = None
        self._models = self._spare = 0

    def __enter__(self) -> Self:
        self.home = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="pi-bench-")))
        (self.home / ".ssh").mkdir(mode=0o700)
        (self.home / ".pi").mkdir(mode=0o700)
        self.environ = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PI_CONFIG_DIR": str(self.home / ".pi"),
            "PI_API_KEY": KEY,
            "LANG": "C.UTF-8",
            "PI_HOLD": "0",
        }
        self.holding = self.environ | {"PI_HOLD": "1"}
        self.remember(pods=8)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def remember(self, *, pods: int, models: int = 0) -> None:
        """Write `pods.json`: so many pods with so many models each, `pod-1` being active."""
        names = [f"pod-{number}" for number in range(1, pods + 1)]
        self._write({name: f"ssh {name}" for name in names}, models)

    def remember_busy(self, *, models: int) -> None:
        """Write `pods.json`: the busy pod alone, with so many models."""
        self._write({BUSY: f"ssh -i {self.busy.key} root@{self.busy.address}"}, models)

    def _write(self, commands: Mapping[str, str], models: int) -> None:
        running = {
            f"m{port - FIRST_PORT + 1}": {
                "model": "tiny/model", "port": port, "gpu": "0", "pid": 1, "uid": f"bench{port}",
            }
            for port in range(FIRST_PORT, FIRST_PORT + models)
        }  # fmt: skip
        pods = {name: {"ssh": command, "gpus": [GPU], "models": running} for name, command in commands.items()}
        (self.home / ".pi/pods.json").write_text(json.dumps({"pods": pods, "active": next(iter(pods))}))

    @functools.cached_property
    def idle(self) -> OpensshPod:
        """The machine on which nothing runs."""
        return self._machine("idle", "pod-*", [f"pod-{number}" for number in range(1, MOST_PODS + 1)])

    @functools.cached_property
    def busy(self) -> OpensshPod:
        """The machine for models."""
        pod = self._machine("busy", BUSY, [BUSY])
        # On an overlay `tail -F` looks once a second, elsewhere it is told.
        pod.check("mkdir ~/.vllm_logs && mount -t tmpfs logs ~/.vllm_logs")
        return pod

    def ssh(self, *options: str, pod: str = BUSY) -> list[str]:
        """Return ssh as a user types it, with a configuration in which a pod is a name."""
        return ["ssh", "-F", str(self.home / ".ssh/config"), *options, pod]

    def shell(self, line: str) -> list[str]:
        return ["bash", "-c", f"set -o pipefail; {line}"]

    def ssh_line(self, *options: str, pod: str = BUSY) -> str:
        return shlex.join(self.ssh(*options, pod=pod))

    def have_models(self, count: int) -> None:
        """Let so many models run on the pod, on ports from `FIRST_PORT` on; there are never fewer than before."""
        if count > self._models:
            self._crowd(FIRST_PORT + self._models, FIRST_PORT + count - 1)
            self._models = count

    def one_more(self) -> str:
        """Let one more model run on the pod, and return its name."""
        port = FIRST_SPARE_PORT + self._spare
        self._crowd(port, port)
        self._spare += 1
        return f"m{port - FIRST_PORT + 1}"

    @contextmanager
    def links(self, pods: int) -> Iterator[None]:
        """Let pi hold its links to the pods that it knows, for commands with the environment `holding`."""
        run([self.pi, "list", "--all"], self.holding)
        with suppress(TimeoutError):  # links that cannot be held are a figure too
            until(lambda: self._linked() >= pods, "pi holds the links", seconds=HOLDING)
        print(f"links held: {self._linked()} of {pods}", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            subprocess.run([self.pi, "pods", "unlink"], env=self.holding, capture_output=True, check=False)

    def _linked(self) -> int:
        command = [self.pi, "pods", "--json"]
        told = subprocess.run(command, env=self.holding, capture_output=True, text=True, check=True)
        return sum(pod.get("linked", False) for pod in json.loads(told.stdout))

    def _crowd(self, first: int, last: int) -> None:
        """Start models on these ports."""
        names = ["agent", "agent.wire", "agent.home", "agent.mounts", "agent.machine", "agent.processes"]
        names.append("agent.records")
        crowd = (ROOT / "tests/bench/crowd.py").read_text()
        program = agent_program.pack([*((name, agent_program.source(name)) for name in names), ("crowd", crowd)])
        request = b"%d\n%s%d %d %s\n" % (len(program), program, first, last, KEY.encode())
        (self.busy.home / "crowd").write_bytes(request)
        done = self.busy.run(f"{shell.AGENT} < ~/crowd")
        if done.returncode:
            sys.exit(f"the models could not be started:\n{done.stderr}")
        until(lambda: last in self.busy.listening(), "the models listen")

    def log(self, name: str) -> Path:
        """Return the log of a model, as this machine sees it."""
        return self.busy.home / f".vllm_logs/{name}.log"

    def _machine(self, name: str, pattern: str, called: Sequence[str]) -> OpensshPod:
        if self._lab is None:
            base_root.ready(PACKAGES)
            self._lab = self._open.enter_context(OpensshLab())
        pod = self._lab.pod(name, packages=PACKAGES)
        prepared.furnish(pod)
        pod.sshd_config(MaxStartups=300, MaxSessions=300)
        pod.restart_sshd()
        known = self.home / ".ssh/known_hosts"
        key = " ".join((pod.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])
        with known.open("a") as file:
            file.write(f"{pod.address} {key}\n")
        with (self.home / ".ssh/config").open("a") as file:
            file.write(CONFIG.format(pattern=pattern, address=pod.address, key=pod.key, known=known))
        with (self.home / ".pi/known_hosts").open("a") as file:
            file.writelines(f"{name} {key}\n" for name in called)
        return pod

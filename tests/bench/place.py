"""Where it is measured: a user of its own, and a pod with a real sshd that goes by many names."""

import json
import os
import shlex
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.lab import base_root, prepared
from tests.lab.openssh import OpensshLab, OpensshPod
from tests.until import until

ROOT = Path(__file__).parent.parent.parent
PACKAGES = (*base_root.WITH_PYTHON, "curl")
MOST_PODS = 64
FIRST_PORT = 8001
GPU = {"id": 0, "name": "NVIDIA H100 80GB HBM3", "memory": "80GB"}
CONFIG = """\
Host pod-*
  HostName {address}
  User root
  IdentityFile {key}
  UserKnownHostsFile {known}
  GlobalKnownHostsFile /dev/null
"""


class Place:
    """A home with `pods.json` and an ssh configuration. The pod is started when something asks for it.

    `pod-1` to `pod-64` are all the same machine, each known by a name of its own as 64 machines would be.
    """

    python = sys.executable
    pi = str(Path(sys.executable).with_name("pi"))

    def __init__(self) -> None:
        self._open = ExitStack()
        self._pod: OpensshPod | None = None
        self._models = 0

    def __enter__(self) -> Self:
        self.home = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="pi-bench-")))
        (self.home / ".ssh").mkdir(mode=0o700)
        (self.home / ".pi").mkdir(mode=0o700)
        self.environ = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "PI_CONFIG_DIR": str(self.home / ".pi"),
            "PI_API_KEY": "a-key-for-a-benchmark",
            "LANG": "C.UTF-8",
        }
        self.remember(pods=8)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def remember(self, *, pods: int, models: int = 1) -> None:
        """Write `pods.json`: so many pods, on each of which pi remembers so many models."""
        entry = {
            "ssh": "",
            "gpus": [GPU],
            "models": {
                f"m{number}": {
                    "model": "tiny/model", "port": FIRST_PORT + number - 1, "gpu": "0", "pid": 1,
                    "uid": f"bench{FIRST_PORT + number - 1}",
                }
                for number in range(1, models + 1)
            },
        }  # fmt: skip
        names = [f"pod-{number}" for number in range(1, pods + 1)]
        state = {"pods": {name: entry | {"ssh": f"ssh {name}"} for name in names}, "active": "pod-1"}
        (self.home / ".pi/pods.json").write_text(json.dumps(state))

    @property
    def pod(self) -> OpensshPod:
        if self._pod is None:
            base_root.ready(PACKAGES)
            lab = self._open.enter_context(OpensshLab())
            self._pod = lab.pod("bench", packages=PACKAGES)
            prepared.furnish(self._pod)
            self._pod.sshd_config(MaxStartups=300, MaxSessions=300)
            self._pod.restart_sshd()
            self._introduce(self._pod)
        return self._pod

    def ssh(self, *options: str, pod: str = "pod-1") -> list[str]:
        """Return ssh as a user types it, with a configuration in which a pod is a name."""
        assert self.pod
        return ["ssh", "-F", str(self.home / ".ssh/config"), *options, pod]

    def shell(self, line: str) -> list[str]:
        return ["bash", "-c", f"set -o pipefail; {line}"]

    def ssh_line(self, *options: str, pod: str = "pod-1") -> str:
        return shlex.join(self.ssh(*options, pod=pod))

    def have_models(self, count: int) -> None:
        """Let so many models run on the pod, on ports from `FIRST_PORT` on; there are never fewer than before."""
        if count > self._models:
            program = (ROOT / "remote/pod_machine.py").read_text() + (ROOT / "tests/bench/crowd.py").read_text()
            first, last = FIRST_PORT + self._models, FIRST_PORT + count - 1
            done = self.pod.run(f"exec python3 -I -S - {first} {last}", input=program)
            if done.returncode:
                sys.exit(f"the models could not be started:\n{done.stderr}")
            self._models = count
            until(lambda: last in self.pod.listening(), "the models listen")

    def log(self, name: str) -> Path:
        """Return the log of a model, as this machine sees it."""
        return self.pod.home / f".vllm_logs/{name}.log"

    def _introduce(self, pod: OpensshPod) -> None:
        known = self.home / ".ssh/known_hosts"
        key = " ".join((pod.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2])
        known.write_text(f"{pod.address} {key}\n")
        config = CONFIG.format(address=pod.address, key=pod.key, known=known)
        (self.home / ".ssh/config").write_text(config)
        names = [f"pod-{number}" for number in range(1, MOST_PODS + 1)]
        (self.home / ".pi/known_hosts").write_text("".join(f"{name} {key}\n" for name in names))

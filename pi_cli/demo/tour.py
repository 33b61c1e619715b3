"""The tour of `pi demo`: the real commands, one after the other, against an embedded pod."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import PiError
from pi_cli.view import terminal

KEY = "demo-key-for-this-pod-only"
MODEL, NAME = "zai-org/GLM-4.5-Air-FP8", "glm"

ON_A_REAL_POD = f"""\
On a real pod, with the ssh command from your provider's dashboard:

  export HF_TOKEN=hf_…
  export PI_API_KEY=$(openssl rand -hex 32)
  pi pods setup dc1 "ssh root@1.2.3.4"
  pi start {MODEL} --name {NAME}
  pi prompt {NAME} "What is 2+2?"
  pi logs {NAME}
  pi stop {NAME}
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A pod, and the environment in which commands see it instead of the user's own pods."""

    pod: EmbeddedPod
    config: Path
    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"PI_CONFIG_DIR": str(self.config), "PI_API_KEY": KEY, "HF_TOKEN": "hf_demo_token"}

    def pi(self, *words: str) -> None:
        """Run a command as a person would, after showing it. Raises `PiError` if it fails."""
        terminal.say(("\n$ ", "bold green"), (shlex.join(["pi", *words]), "bold"))
        sys.stdout.flush()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        done = subprocess.run(
            [sys.executable, "-m", "pi_cli", *words],
            env=environment | self.settings,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise PiError(f"the demo stopped: `pi {words[0]}` ended with exit code {done.returncode}")


def run() -> None:
    """Play the whole tour; nothing is left behind."""
    terminal.say("This is pi on a pod that lives inside this command. SSH, files and processes are real;")
    terminal.say("the GPUs, the download and the model behind vLLM's interface are ", ("simulated", "bold"), ".")
    with _stage() as stage:
        (stage.folder / "haiku.txt").write_text("A rented machine\nhums for an hour and is gone\nthe answer remains\n")
        stage.pi("pods", "setup", "demo", stage.pod.ssh)
        stage.pi("pods")
        stage.pi("start", MODEL, "--name", NAME)
        stage.pi("list")
        stage.pi("prompt", NAME, "What is 2+2?")
        stage.pi("prompt", NAME, f"List the files in {stage.folder}")
        stage.pi("logs", NAME, "-n", "5", "--no-follow")
        stage.pi("stop", NAME)
    terminal.say("\nThe pod is gone, and nothing of it is left. ", ("The engine was simulated.", "bold"), "\n")
    terminal.say(ON_A_REAL_POD)


def keep() -> None:
    """Leave a prepared pod running until Ctrl+C, for commands in other terminals."""
    with _stage() as stage:
        stage.pi("pods", "setup", "demo", stage.pod.ssh)
        terminal.say("\nThe pod `demo` runs until Ctrl+C here. Its engine is simulated. In another terminal:\n")
        for name, value in stage.settings.items():
            terminal.say(f"  export {name}={shlex.quote(value)}")
        terminal.say(f'  pi start {MODEL} --name {NAME}\n  pi prompt {NAME} "What is 2+2?"\n')
        sys.stdout.flush()
        _wait_for_the_end()
    terminal.say("The pod is gone, and nothing of it is left.")


def _wait_for_the_end() -> None:
    """Return at Ctrl+C, which is how `--keep` is meant to end, or when somebody else wants us gone."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


@contextmanager
def _stage() -> Iterator[Stage]:
    """Set up an embedded pod beside the user's own pods, which it does not touch."""
    if not Path("/proc/self/environ").exists():
        raise PiError("`pi demo` needs Linux: its pod is one", hint="try it in a Linux container or virtual machine")
    with tempfile.TemporaryDirectory(prefix="pi-demo-") as folder, EmbeddedPod("2x H100 80GB") as pod:
        work = Path(folder, "work")
        work.mkdir()
        yield Stage(pod, Path(folder, "config"), work)

"""The tour of `pi demo`: the real commands, one after the other, on an embedded pod."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pi_cli import interrupts
from pi_cli.demo.pod import EmbeddedPod
from pi_cli.errors import PiError
from pi_cli.hints import command
from pi_cli.view import terminal

KEY = "demo-key-for-this-pod-only"
MODEL, NAME = "openai/gpt-oss-20b", "oss"  # as in README: it also fits a card of 24 GB

ELSEWHERE = (
    'run it in a Linux container, from a checkout: `docker run --rm -it -v "$PWD":/pi -w /pi python:3.12 '
    'sh -c "pip install . && pi demo"`; everything else works here: `pi pods setup NAME "ssh root@HOST"`'
)
NEXT_STEPS = f"""\
To do the same on a real pod, with the ssh command from your provider:

  export HF_TOKEN=hf_…
  pi key new
  pi pods setup dc1 "ssh root@1.2.3.4"
  pi start {MODEL} --name {NAME}
  pi prompt {NAME} "What is 2+2?"
  pi logs {NAME}
  pi stop {NAME}
"""


@dataclass(frozen=True, slots=True)
class DemoEnvironment:
    """The embedded pod, and the settings with which commands see it instead of the user's own pods."""

    pod: EmbeddedPod
    config: Path
    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        settings = {"PI_CONFIG_DIR": str(self.config), "PI_API_KEY": KEY, "HF_TOKEN": "hf_demo_token"}
        return settings | ({"PI_POD": ""} if os.environ.get("PI_POD") else {})  # it names one of the user's own pods

    def pi(self, *argv: str) -> None:
        """Print a command and run it as a user would. Raises `PiError` if it fails."""
        terminal.say(("\n$ ", "bold green"), (command("pi", *argv), "bold"))
        sys.stdout.flush()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        done = subprocess.run(
            [sys.executable, "-m", "pi_cli", *argv],
            env=environment | self.settings,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise PiError(f"the demo stopped: its last command exited with code {done.returncode}")


def run() -> None:
    """Run the whole tour; nothing is left behind."""
    terminal.say("This tour runs pi on a pod inside this command. SSH, files and processes are")
    terminal.say("real; the GPUs, the download, vLLM and the model are ", ("simulated", "bold"), ".")
    with _environment() as demo:
        (demo.folder / "haiku.txt").write_text("A rented machine\nhums for an hour and is gone\nthe answer remains\n")
        demo.pi("pods", "setup", "demo", demo.pod.ssh)
        demo.pi("pods")
        demo.pi("start", MODEL, "--name", NAME)
        demo.pi("list")
        demo.pi("prompt", NAME, "What is 2+2?")
        demo.pi("prompt", NAME, f"List the files in {demo.folder}")
        demo.pi("logs", NAME, "-n", "5", "--no-follow")
        demo.pi("stop", NAME)
    terminal.say("\nThe pod and its files have been removed. ", ("GPUs, vLLM and model were simulated.", "bold"), "\n")
    terminal.say(NEXT_STEPS)


def keep() -> None:
    """Keep a prepared pod running until Ctrl+C, for commands in other terminals."""
    with _environment() as demo:
        demo.pi("pods", "setup", "demo", demo.pod.ssh)
        terminal.say("\nThe pod `demo` runs until you press Ctrl+C here. Its models are simulated.")
        terminal.say("To use it, paste this into another terminal:\n")
        for name, value in demo.settings.items():
            terminal.say(f"  export {name}={command(value)}")
        terminal.say(f'  pi start {MODEL} --name {NAME}\n  pi prompt {NAME} "What is 2+2?"\n')
        sys.stdout.flush()
        _wait_for_ctrl_c()
    terminal.say("The pod and its files have been removed.")


def _wait_for_ctrl_c() -> None:
    """Wait for Ctrl+C, the intended end of `--keep`; SIGTERM and SIGHUP end it as every command."""
    pressed = threading.Event()
    if not interrupts.is_ignored(signal.SIGINT):
        signal.signal(signal.SIGINT, lambda *_: pressed.set())
    pressed.wait()


@contextmanager
def _environment() -> Iterator[DemoEnvironment]:
    """Create an embedded pod with its own settings; the user's own pods are not touched."""
    if not Path("/proc/self/environ").exists():
        raise PiError("`pi demo` needs Linux to run its pod", hint=ELSEWHERE)
    with tempfile.TemporaryDirectory(prefix="pi-demo-") as folder, EmbeddedPod("2x H100 80GB") as pod:
        work = Path(folder, "work")
        work.mkdir()
        yield DemoEnvironment(pod, Path(folder, "config"), work)

"""pi caught in the act: stop it, kill it or look at it at a chosen moment."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import Pi, Result
from tests.lab.openssh import OpensshPod, Process
from tests.lab.relay import Relay

MODEL = "Qwen/Qwen3-8B"
QUICK = ("--vllm", "--simulate", "slow=0.2")
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
SLOW = ("--vllm", "--simulate", "slow=15")  # 3 s until it loads weights, 12 s more until it is ready


def begin(*words: str) -> "subprocess.Popen[str]":
    """Run pi without waiting for it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pi_cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def pi_at(moment: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """Run pi, and go on when it has said something on stderr; if it still runs at the end of the block, kill it."""
    with begin(*words) as process:
        assert process.stderr
        try:
            said = ""
            while moment not in said:
                line = process.stderr.readline()
                said += line
                assert line, f"pi ended and never said {moment!r}:\n{said}"
            yield process
        finally:
            process.kill()


def seconds_until_end(process: "subprocess.Popen[str]", *, timeout: float = 60) -> float:
    started = time.monotonic()
    process.wait(timeout)
    return time.monotonic() - started


def start(pi: Pi, name: str = "q", *, pod: str = "dc1", own: tuple[str, ...] = QUICK) -> int:
    """Start a model and return its PID on the pod."""
    result = pi("start", MODEL, "--name", name, "--pod", pod, "--json", *own)
    assert result.code == 0, result.err
    return int(result.json[0]["pid"])


def living(pod: OpensshPod) -> list[Process]:
    """Return what pi's commands have left on a pod: all processes but sshd's own and the dead.

    A process without arguments has given its memory back: it is about to be dead.
    """
    return [each for each in pod.processes() if each.state != "Z" and each.args and not is_sshd(each)]


def is_sshd(process: Process) -> bool:
    return process.args[:1] != [] and process.args[0].startswith(("sshd:", "/usr/sbin/sshd"))


def session_of_sshd(pod: OpensshPod) -> Process:
    """Return the process of sshd that serves the one open connection of root's."""
    titles = (["sshd: root@notty"], ["sshd: root"])  # the second runs no command, and may forward
    [found] = [each for each in pod.processes() if each.args[:1] in titles]
    return found


def downloads(pod: OpensshPod) -> list[Process]:
    return [each for each in living(pod) if "download" in each.args]


def servers(pod: OpensshPod) -> list[Process]:
    return [each for each in living(pod) if "serve" in each.args]


def records(pod: OpensshPod) -> list[str]:
    """Return the records of models that pi keeps on the pod."""
    folder = pod.home / ".pi/models"
    return sorted(path.read_text() for path in folder.iterdir()) if folder.exists() else []


def ended(process: "subprocess.Popen[str]", *, timeout: float = 60) -> Result:
    """Wait for a pi that `begin` began."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Result(process.returncode, out, err)


def pods_file() -> Path:
    return Path(os.environ["PI_CONFIG_DIR"], "pods.json")


def register_way(pod: OpensshPod, name: str, ssh: str) -> None:
    """Register the machine of a registered pod once more, under another name and with another way to it."""
    state = json.loads(pods_file().read_text())
    state["pods"][name] = {"ssh": ssh, "gpus": state["pods"][pod.name]["gpus"], "models": {}}
    pods_file().write_text(json.dumps(state))
    known = pods_file().with_name("known_hosts")
    [key] = [line for line in known.read_text().splitlines() if line.split()[0] == pod.name]
    known.write_text(f"{known.read_text()}{name} {' '.join(key.split()[1:])}\n")


@contextmanager
def way_to(pod: OpensshPod, name: str, **faults: Any) -> Iterator[Relay]:
    """Register a machine once more, under a name by which it is reached through a relay with these faults."""
    with Relay(pod.address, pod.port, **faults) as way:
        register_way(pod, name, f"ssh -i {pod.key} -p {way.port} root@127.0.0.1")
        yield way

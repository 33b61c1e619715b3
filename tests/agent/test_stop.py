"""What a stop ends: the model that is meant, with all that it has started, and nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.agent.machine import Machine, known
from tests.until import until

SERVER = [sys.executable, "-c", "import time; time.sleep(300)", "vllm", "serve"]
# Starts two servers, the first with a child in a session of its own, and tells the PIDs.
SCRIPT = """
"$@" a --port 18001 & echo $!
"$@" b --port 18002 & echo $!
wait
"""
WITH_A_CHILD = """
import subprocess, sys, time
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(300)
"""


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextmanager
def by_hand(*command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command as a user does on the pod, in a process group of its own."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def stop(machine: Machine, *models: Any, exact: bool = False) -> Any:
    return machine.ask("stop", models=list(models), exact=exact)["result"]


def test_of_two_servers_that_one_script_started_only_the_named_one_is_ended(machine: Machine) -> None:
    with by_hand("bash", "-c", SCRIPT, "bash", *SERVER) as script:
        assert script.stdout
        first, second = (int(script.stdout.readline()) for _ in range(2))
        until(lambda: b"18001" in Path(f"/proc/{first}/cmdline").read_bytes())
        assert stop(machine, known("a", pid=first, port=18001))["outcomes"] == ["stopped"]
        assert not lives(first)
        assert lives(second)
        assert script.poll() is None


def test_what_a_server_has_started_ends_with_it(machine: Machine) -> None:
    command = [sys.executable, "-c", WITH_A_CHILD, "vllm", "serve", "a", "--port", "18001"]
    with by_hand(*command) as server:
        assert server.stdout
        child = int(server.stdout.readline())
        assert stop(machine, known("a", pid=server.pid, port=18001))["outcomes"] == ["stopped"]
        until(lambda: not lives(child))


def test_the_model_of_that_name_is_meant_if_another_client_started_it(machine: Machine) -> None:
    old = machine.start("q")["result"]["record"]["uid"]
    assert stop(machine, known("q", old))["others"] == [False]
    new = machine.start("q")["result"]["record"]["uid"]
    assert machine.survey()["result"]["models"]
    expected = {"outcomes": ["stopped"], "others": [True], "uids": [new], "peers": [[]], "freed": None}
    assert stop(machine, known("q", old)) == expected
    assert machine.survey()["result"]["models"] == []
    assert stop(machine, known("q", old))["outcomes"] == ["gone"]


def test_a_start_that_failed_ends_its_own_launch_only(machine: Machine) -> None:
    machine.start("q")
    assert stop(machine, known("q", "another-launch"), exact=True)["outcomes"] == ["gone"]
    assert [model["name"] for model in machine.survey()["result"]["models"]] == ["q"]

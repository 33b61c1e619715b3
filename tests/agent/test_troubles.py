"""The agent on a pod where a model cannot start: ports and GPUs in use, logs that cannot be written."""

import errno
import os
from pathlib import Path

import pytest

from pi_cli.pods import nvidia
from tests.agent.machine import Machine

TAKEN = "OSError: [Errno 98] Address already in use"
PRINTS = """#!/bin/sh
echo once >> ~/launches
echo '{message}'
exit 1
"""
SMI = """#!/bin/sh
case "$1" in
  *query-gpu*) printf '0, GPU-a\\n1, GPU-b\\n' ;;
  *) printf 'GPU-b, 4711, 73403, /usr/bin/python3 -m x, y\\nGPU-b, 4712, [N/A], other\\nGPU-z, 1, 1, gone\\n' ;;
esac
"""


@pytest.fixture
def machine(environment: Path) -> Machine:
    return Machine(environment)


@pytest.mark.parametrize(
    ("message", "launches"),
    [
        (TAKEN, 3),
        (f"(APIServer pid=7) {TAKEN}", 3),
        (f"(APIServer pid=7) INFO 11-23 13:31:46 [x.py:1] {TAKEN}: trying the next one", 1),
        ("RuntimeError: no luck", 1),
    ],
)
def test_vllm_is_launched_again_only_if_another_program_took_its_port(
    machine: Machine, message: str, launches: int
) -> None:
    """Fault 29."""
    machine.install("vllm", PRINTS.replace("{message}", message))
    assert machine.start(wait=True)["result"]["state"] == "exited"
    assert (machine.home / "launches").read_text().split() == ["once"] * launches


def test_processes_that_hold_memory_and_those_of_models_are_reported(machine: Machine) -> None:
    """Fault 34."""
    machine.install("nvidia-smi", SMI)
    pid = machine.start()["result"]["record"]["pid"]
    try:
        result = machine.ask("holders", questions=[nvidia.UUIDS, nvidia.HOLDERS])["result"]
    finally:
        os.killpg(pid, 9)
    assert pid in result["ours"], "together with those of other tests"
    assert nvidia.read_holders(*result["outputs"]) == [(1, 4711, 73403, "/usr/bin/python3 -m x, y")]


def test_without_nvidia_smi_no_process_is_reported(machine: Machine) -> None:
    machine.install("nvidia-smi", "#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    result = machine.ask("holders", questions=[nvidia.UUIDS, nvidia.HOLDERS])["result"]
    assert nvidia.read_holders(*result["outputs"]) == []


def test_a_log_that_cannot_be_written_is_detected_before_the_download(machine: Machine) -> None:
    """Fault 41."""
    machine.install("hf", "#!/bin/sh\necho downloading > ~/downloaded\n")
    (machine.home / ".vllm_logs").write_text("not a folder")
    answer = machine.start(download=True)
    refusal = {"code": "os", "path": f"{machine.home}/.vllm_logs", "reason": "File exists", "errno": errno.EEXIST}
    assert answer["refusal"] == refusal
    assert not (machine.home / "downloaded").exists()
    assert machine.records() == []
    (machine.home / ".vllm_logs").unlink()
    record = machine.start()["result"]["record"]
    assert [path.name for path in (machine.home / ".vllm_logs").iterdir()] == ["q.log"], "the trial file is deleted"
    os.killpg(record["pid"], 9)

"""What the agent makes of a pod on which a model cannot start: taken ports, GPUs that others hold, logs."""

import errno
import os
from pathlib import Path

import pytest

from pi_cli.pods import nvidia
from tests.agent.machine import Machine

TAKEN = "OSError: [Errno 98] Address already in use"
SAYS = """#!/bin/sh
echo once >> ~/launches
echo '{said}'
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
    ("said", "launches"),
    [
        (TAKEN, 3),
        (f"(APIServer pid=7) {TAKEN}", 3),
        (f"(APIServer pid=7) INFO 11-23 13:31:46 [x.py:1] {TAKEN}: trying the next one", 1),
        ("RuntimeError: no luck", 1),
    ],
)
def test_vllm_is_launched_again_when_it_has_lost_its_port_and_for_no_other_reason(
    machine: Machine, said: str, launches: int
) -> None:
    """Fault 29."""
    machine.install("vllm", SAYS.replace("{said}", said))
    assert machine.start(wait=True)["result"]["state"] == "exited"
    assert (machine.home / "launches").read_text().split() == ["once"] * launches


def test_who_holds_memory_is_told_and_who_of_them_is_ours(machine: Machine) -> None:
    """Fault 34."""
    machine.install("nvidia-smi", SMI)
    pid = machine.start()["result"]["record"]["pid"]
    try:
        told = machine.ask("holders", questions=[nvidia.UUIDS, nvidia.HOLDERS])["result"]
    finally:
        os.killpg(pid, 9)
    assert pid in told["ours"], "among those of other tests"
    assert nvidia.read_holders(*told["outputs"]) == [(1, 4711, 73403, "/usr/bin/python3 -m x, y")]


def test_without_nvidia_smi_nobody_is_told(machine: Machine) -> None:
    machine.install("nvidia-smi", "#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    told = machine.ask("holders", questions=[nvidia.UUIDS, nvidia.HOLDERS])["result"]
    assert nvidia.read_holders(*told["outputs"]) == []


def test_a_log_that_cannot_be_written_is_found_before_anything_is_downloaded(machine: Machine) -> None:
    """Fault 41."""
    machine.install("hf", "#!/bin/sh\necho downloading > ~/downloaded\n")
    (machine.home / ".vllm_logs").write_text("not a folder")
    answer = machine.start(download=True)
    refusal = {"code": "os", "path": f"{machine.home}/.vllm_logs", "reason": "File exists", "errno": errno.EEXIST}
    assert answer["refusal"] == refusal
    assert not (machine.home / "downloaded").exists()
    assert machine.records() == []
    (machine.home / ".vllm_logs").unlink()
    place = machine.start()["result"]["record"]
    assert [path.name for path in (machine.home / ".vllm_logs").iterdir()] == ["q.log"], "nothing of the trial is left"
    os.killpg(place["pid"], 9)

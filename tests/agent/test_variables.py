"""Which of the machine's environment variables the agent's programs get, and the place of the models."""

import os
import sys
from pathlib import Path

import pytest

from tests.agent.machine import Machine
from tests.until import until

sys.path.append(str(Path(__file__).parents[2] / "remote"))

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pods run Linux")

LET_IN = {"https_proxy": "http://proxy:3128", "SSL_CERT_DIR": "/etc/certs", "HF_ENDPOINT": "https://hub.example.org"}
LEFT_OUT = {
    "HF_HOME": "/workspace/.hf_home", "HF_HUB_CACHE": "/scratch/hub", "XDG_CACHE_HOME": "/scratch", "HF_TOKEN": "hf_x",
    "HF_HUB_OFFLINE": "yes", "TRANSFORMERS_OFFLINE": "1", "VLLM_USE_V1": "0", "VLLM_API_KEY": "other",
    "VLLM_CACHE_ROOT": "/scratch/vllm", "CUDA_VISIBLE_DEVICES": "7", "CUDA_HOME": "/opt/cuda",
    "LD_PRELOAD": "libm.so.6", "PYTHONPATH": "/opt/old", "PYTHONHOME": "/opt/python",
    "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:1",
    "BASH_ENV": "/nowhere/script", "PI_MODEL_UID": "of-another-model", "PI_VLLM_CACHE": "/scratch", "CC": "/opt/cc",
}  # fmt: skip
DUMP = "#!/bin/sh\nenv -0 > ~/{name}.$$; mv ~/{name}.$$ ~/{name}.environ\n{then}\n"  # two of them may run at once


def environ(machine: Machine, name: str) -> dict[str, str]:
    file = machine.home / f"{name}.environ"
    until(file.exists)
    return dict(entry.split("=", 1) for entry in file.read_text().split("\0") if entry)


def storage(machine: Machine) -> str | None:
    answer = machine.ask("inspect", gpu_query=["true"], gpu_list=["true"], known=None, abilities=[], cuda=None)[
        "result"
    ]["storage"]
    return str(answer["path"]) if answer else None


def test_vllm_and_hf_get_only_variables_of_the_machine_that_are_let_in(machine: Machine) -> None:
    machine.environ = LET_IN | LEFT_OUT
    for name, then in (("hf", "exit 0"), ("vllm", "exec sleep 300")):
        machine.install(name, DUMP.format(name=name, then=then))
    machine.start(download=True)
    for name in ("hf", "vllm"):
        got = environ(machine, name)
        assert LET_IN.items() <= got.items()
        assert [left for left, value in LEFT_OUT.items() if value in got.get(left, "").split(":")] == []
    assert environ(machine, "vllm")["CUDA_VISIBLE_DEVICES"] == "0"


def test_nvidia_smi_gets_the_same_and_finds_the_driver(machine: Machine) -> None:
    machine.environ = LEFT_OUT | {"LD_LIBRARY_PATH": "/opt/conda/lib:/usr/local/nvidia/lib64"}
    machine.install("nvidia-smi", DUMP.format(name="smi", then="exit 9"))
    machine.ask("inspect", gpu_query=["nvidia-smi"], gpu_list=["nvidia-smi"], known=None)
    got = environ(machine, "smi")
    assert got["LD_LIBRARY_PATH"] == "/usr/local/nvidia/lib64"
    assert LEFT_OUT.keys() & got.keys() == set()


def test_what_the_environment_file_says_counts(machine: Machine) -> None:
    machine.environ = {"HF_HUB_CACHE": "/scratch/hub", "VLLM_USE_V1": "0"}
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text("export VLLM_USE_V1=1\nexport HF_HUB_CACHE=/mine/hub\n")
    machine.install("vllm", DUMP.format(name="vllm", then="exec sleep 300"))
    machine.start()
    assert environ(machine, "vllm").items() >= {"VLLM_USE_V1": "1", "HF_HUB_CACHE": "/mine/hub"}.items()
    assert storage(machine) == "/mine/hub"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("", None),
        ("HF_HOME=/m/huggingface", "/m"),
        ("HF_HOME=/m/huggingface/", "/m"),
        ("HF_HOME=/m/hf", "/m/hf/hub"),
        ("HF_HUB_CACHE=/scratch/hub", "/scratch/hub"),
        ("HUGGINGFACE_HUB_CACHE=/m/huggingface/hub", "/m"),
        ("XDG_CACHE_HOME=/caches", "/caches"),
        ("HF_HOME=~/.cache/huggingface", None),
        ("HF_HOME=relative", None),
    ],
)
def test_the_download_and_pi_agree_on_the_place(machine: Machine, line: str, place: str | None) -> None:
    machine.environ = dict.fromkeys(("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"), "/of/the/machine")
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text(f"export {line}\n" if line else "")
    assert storage(machine) == place


def test_a_link_that_setup_made_is_the_place(machine: Machine) -> None:
    (machine.home / ".cache").mkdir()
    (machine.home / ".cache/huggingface").symlink_to("/no/such/volume/huggingface")
    assert storage(machine) == "/no/such/volume"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("operation", ["survey", "inspect", "stop", "start"])
def test_a_folder_of_another_user_is_refused_by_every_operation(machine: Machine, operation: str) -> None:
    folder = machine.home / ".pi"
    folder.mkdir()
    (folder / "env").write_text("touch ~/ran\n")
    os.chown(folder, 12345, 12345)
    request: dict[str, object] = {
        "known": [],
        "forget": True,
        "memory": True,
        "live": False,
        "models": [],
        "exact": False,
    }
    answer = machine.ask(operation, **request)
    assert answer["refusal"] == {"code": "not-ours", "path": str(folder), "name": "uid 12345"}
    assert [path.name for path in folder.iterdir()] == ["env"]
    assert not (machine.home / "ran").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_an_environment_file_of_another_user_is_refused_and_one_of_uid_65534_too(machine: Machine) -> None:
    """On a share with root_squash, that is we; on a disk of the machine, it is another user."""
    folder = machine.home / ".pi"
    folder.mkdir()
    (folder / "env").write_text("touch ~/ran\n")
    os.chown(folder / "env", 65534, 65534)
    asked = {"gpu_query": ["true"], "gpu_list": ["true"], "known": None}
    assert machine.ask("inspect", **asked)["refusal"]["path"] == str(folder / "env")
    os.chown(folder, 65534, 65534)
    assert machine.ask("inspect", **asked)["refusal"] == {"code": "not-ours", "path": str(folder), "name": "nobody"}
    assert [path.name for path in folder.iterdir()] == ["env"]
    assert not (machine.home / "ran").exists()


def test_an_own_folder_behind_a_link_is_used(machine: Machine) -> None:
    """A small disk for the home, and a large one for the rest."""
    (machine.home / "large").mkdir()
    (machine.home / ".pi").symlink_to(machine.home / "large")
    (machine.home / "large/env").write_text("export HF_HOME=/m/huggingface\n")
    assert storage(machine) == "/m"

"""A purge deletes what setup and starts have put on a machine, and nothing else."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.agent.machine import SLEEPER, Machine
from tests.agent.test_shared_homes import NFS, become

SHELL_LINE = "[ -r ~/.pi/env ] && . ~/.pi/env # by pi pods setup"


def write(path: Path, text: str = "x" * 5000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def prepared(machine: Machine) -> Machine:
    """A machine as setup leaves it, with models on a volume, and with files of its user."""
    become(machine, "gpu01")
    home, volume = machine.home, machine.home.parent / "volume"
    shutil.rmtree(home / "venv")
    for name in ("0.33.0/bin/vllm", "0.33.0/lib/python3.12/site-packages/torch/lib.so", "0.32.0/bin/vllm"):
        write(home / ".pi/venvs" / name)
    (home / "venv").symlink_to(home / ".pi/venvs/0.33.0")
    write(home / "venv.before-setup/bin/python")
    ours = f"export HF_HOME='{volume}/huggingface'\nexport PI_VLLM_CACHE='{volume}/vllm-cache/H100'\n"
    write(home / ".pi/env", ours)
    write(home / ".pi/env.setup", ours)
    for name in ("remote/pod_setup.sh", "uv/bin/uv", "lib/require_key.py", "uploads/abc/file", "apt.log", "setup.lock"):
        write(home / ".pi" / name)
    write(home / ".pi/machine", "gpu01 boot\n")
    write(home / ".cache/uv/archive/wheel")
    write(home / ".vllm_logs/q.log")
    write(home / ".vllm_logs/q.log.1")
    write(home / ".bashrc", f"alias ll=ls\n{SHELL_LINE}\nexport A=1\n").chmod(0o640)
    write(volume / "huggingface/hub/models--m--m/blobs/weights")
    write(volume / "huggingface/token", "hf_secret")
    write(volume / "vllm-cache/H100/0.33.0/graph")
    write(volume / "vllm-cache/A100/0.33.0/graph")
    (home / ".cache/huggingface").symlink_to(volume / "huggingface")
    write(home / ".cache/huggingface.before-setup/hub/old")
    # of the user
    write(home / "precious/data")
    (home / ".pi/venvs/0.33.0/data").symlink_to(home / "precious")
    write(home / ".pi/pods.json")
    write(home / ".pi/key")
    return machine


def purge(machine: Machine, *, delete: bool = True, models: bool = False) -> dict[str, Any]:
    return machine.ask("purge", delete=delete, models=models)


def files(machine: Machine) -> set[str]:
    root = machine.home.parent
    paths = [Path(folder, name) for folder, _, names in os.walk(root) for name in names]
    found = {str(path.relative_to(root)) for path in paths}
    return {name.replace(f"{machine.home.name}/", "~/", 1) for name in found if "gpu01/" not in name}


KEPT = {
    "~/precious/data", "~/.pi/pods.json", "~/.pi/key", "~/.bashrc", "~/venv/bin/python", "~/.cache/huggingface/hub/old",
    "volume/huggingface/token", "volume/vllm-cache/A100/0.33.0/graph",
}  # fmt: skip
MODELS = {"volume/huggingface/hub/models--m--m/blobs/weights", "volume/vllm-cache/H100/0.33.0/graph"}


def test_what_is_deleted_is_reported_first_with_its_size(prepared: Machine) -> None:
    before = files(prepared)
    result = purge(prepared, delete=False, models=True)["result"]
    assert files(prepared) == before
    sizes = {
        kind: sum(each["bytes"] for each in result["parts"] if each["kind"] == kind) for kind in ("vllm", "models")
    }
    assert sizes["vllm"] >= 3 * 5000
    assert sizes["models"] >= 2 * 5000
    assert sum(each["files"] for each in result["parts"]) >= 10


def test_everything_that_setup_made_is_deleted_and_nothing_else(prepared: Machine) -> None:
    result = purge(prepared)["result"]
    assert files(prepared) == KEPT | MODELS
    assert (prepared.home / ".bashrc").read_text() == "alias ll=ls\nexport A=1\n"
    assert (prepared.home / ".bashrc").stat().st_mode & 0o777 == 0o640
    assert {(Path(each["path"]).name, each["reason"]) for each in result["kept"]} == {("hub", "models")}


def test_the_models_are_deleted_when_asked_but_not_the_token_beside_them(prepared: Machine) -> None:
    purge(prepared, models=True)
    assert files(prepared) == KEPT


def test_a_purge_that_was_cut_off_is_completed_by_the_next(prepared: Machine) -> None:
    shutil.rmtree(prepared.home / ".pi/venvs/0.33.0")
    (prepared.home / "venv").unlink()
    purge(prepared, models=True)
    assert files(prepared) == KEPT
    assert purge(prepared, models=True)["result"]["parts"] == []


def test_lines_of_the_user_stay_in_the_env(prepared: Machine) -> None:
    env = prepared.home / ".pi/env"
    env.write_text(f"{env.read_text()}export MINE=1\n")
    result = purge(prepared)["result"]
    assert env.read_text() == "export MINE=1\n"
    assert {"path": str(env), "reason": "own-lines"} in result["kept"]


def test_a_venv_and_a_cache_that_setup_did_not_make_stay(prepared: Machine) -> None:
    home = prepared.home
    (home / "venv").unlink()
    write(home / "venv/bin/python")
    (home / ".cache/huggingface").unlink()
    (home / ".cache/huggingface").symlink_to(home / "precious")
    shutil.rmtree(home / ".pi/uv")  # the machine had a uv
    result = purge(prepared)["result"]
    assert {"~/venv/bin/python", "~/venv.before-setup/bin/python", "~/.cache/uv/archive/wheel"} <= files(prepared)
    assert (home / ".cache/huggingface").is_symlink()
    assert {each["reason"] for each in result["kept"]} == {"not-made-by-setup", "maybe-yours", "models"}


def test_a_link_in_place_of_a_folder_is_not_followed(prepared: Machine) -> None:
    home = prepared.home
    shutil.rmtree(home / ".pi/uploads")
    (home / ".pi/uploads").symlink_to(home / "precious")
    (home / ".bashrc").rename(home / "dotfiles")
    (home / ".bashrc").symlink_to(home / "dotfiles")
    purge(prepared)
    assert not (home / ".pi/uploads").exists()
    assert (home / "precious/data").exists()
    assert SHELL_LINE in (home / "dotfiles").read_text()


def test_nothing_is_deleted_while_a_model_runs(prepared: Machine) -> None:
    for program in ("vllm", "hf"):
        prepared.install(program, SLEEPER)
    prepared.start("q")
    before = files(prepared)
    assert purge(prepared)["refusal"] == {"code": "in-use", "names": ["q"], "path": ""}
    assert files(prepared) == before


def test_nothing_is_deleted_while_a_setup_runs(prepared: Machine) -> None:
    lock = prepared.home / ".pi/setup.lock"
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert purge(prepared)["refusal"] == {"code": "in-use", "names": [], "path": str(lock)}


def test_models_that_are_downloaded_now_are_not_deleted(prepared: Machine) -> None:
    lease = write(prepared.home.parent / "volume/huggingface/hub/.locks/models--m--m.pi-lease")
    assert purge(prepared, models=True)["refusal"]["code"] == "in-use"
    os.utime(lease, (1, 1))
    purge(prepared, models=True)
    assert files(prepared) == KEPT


def test_a_purge_ends_when_pi_disconnects_and_can_be_run_again(prepared: Machine) -> None:
    for number in range(3000):
        write(prepared.home / f".pi/venvs/0.33.0/many/{number}", "")
    with prepared.open("purge", delete=True, models=False) as agent:
        assert agent.stdin
        agent.stdin.close()
    left = len(files(prepared) - KEPT - MODELS)
    assert left > 1000
    purge(prepared)
    assert files(prepared) == KEPT | MODELS


def test_of_a_home_with_other_machines_their_part_stays(prepared: Machine) -> None:
    home = prepared.home
    become(prepared, "gpu01", NFS)
    (home / ".pi/machines/gpu02").mkdir(parents=True)
    (home / ".pi/machines/gpu02/venv").symlink_to(home / ".pi/venvs/0.32.0")
    purge(prepared)
    left = files(prepared)
    assert "~/.pi/venvs/0.32.0/bin/vllm" in left
    assert "~/.pi/venvs/0.33.0/bin/vllm" not in left
    assert {"~/.pi/env", "~/.pi/uploads/abc/file", "~/.cache/uv/archive/wheel"} <= left
    assert (home / ".cache/huggingface").is_symlink()
    assert SHELL_LINE in (home / ".bashrc").read_text()


def test_of_another_machine_of_a_home_only_its_own_places_are_deleted(prepared: Machine) -> None:
    home = prepared.home
    before = files(prepared)
    become(prepared, "gpu02", NFS)
    write(home / ".pi/machines/gpu02/venvs/0.33.0/bin/vllm")
    write(home / ".pi/machines/gpu02/env")
    write(home / ".vllm_logs/gpu02/q.log")
    purge(prepared)
    assert {name for name in files(prepared) if not name.startswith("gpu02/")} == before


@pytest.fixture
def elsewhere(prepared: Machine) -> Path:
    """What setup has on another disk with `--home`, and had on a third one before that."""
    disk, former = prepared.home.parent / "disk", prepared.home.parent / "former"
    for name in (
        "venvs/0.33.0/bin/vllm",
        "uv/bin/uv",
        "uv-cache/wheel",
        "python/3.12/bin/python",
        "cache/triton/kernel",
    ):
        write(disk / "pi-vllm" / name)
    write(disk / "pi-vllm/machine", "gpu01 boot\n")
    write(disk / "of-the-user")
    write(former / "pi-vllm/venvs/0.31.0/bin/vllm")
    write(prepared.home / ".pi/place", f"{disk}\n{disk}/pi-vllm\n{former}/pi-vllm\n")
    (prepared.home / "venv").unlink()
    (prepared.home / "venv").symlink_to(disk / "pi-vllm/venvs/0.33.0")
    return disk


def test_what_is_on_other_disks_is_deleted_too(prepared: Machine, elsewhere: Path) -> None:
    purge(prepared)
    assert files(prepared) == KEPT | MODELS | {"disk/of-the-user"}
    assert not (elsewhere / "pi-vllm").exists()
    assert not (elsewhere.parent / "former/pi-vllm").exists()


def test_on_another_disk_the_environment_of_another_machine_and_its_python_stay(
    prepared: Machine, elsewhere: Path
) -> None:
    (elsewhere / "pi-vllm/machines/gpu02").mkdir(parents=True)
    (elsewhere / "pi-vllm/machines/gpu02/venv").symlink_to(elsewhere / "pi-vllm/venvs/0.33.0")
    result = purge(prepared)["result"]
    left = {name.removeprefix("disk/pi-vllm/") for name in files(prepared) if name.startswith("disk/pi-vllm/")}
    assert left == {"venvs/0.33.0/bin/vllm", "python/3.12/bin/python", "machine"}
    assert {"path": str(elsewhere / "pi-vllm/python"), "reason": "other-machine"} in result["kept"]

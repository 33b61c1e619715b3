"""`remote/setup/home.sh` and `disks.sh`: vLLM on another disk than the home folder, and which disks are refused."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import SCRIPT, Machine
from tests.remote.outcome import messages, passes, refusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "machine")
    for disk in ("big", "other"):
        (machine.folder / disk).mkdir()
    machine.put_disks(("/", "ext4", 8), (machine.folder / "big", "xfs", 3000), (machine.folder / "other", "ext4", 40))
    return machine


def setup(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = machine.setup(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def preflight(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.step("check_the_machine", *arguments, before="find_the_place")


def proposals(done: subprocess.CompletedProcess[str]) -> list[str]:
    return messages(done, ">")


def agents(machine: Machine, expression: str) -> str:
    """Return what an expression about `place` and `vllm_versions` gives in the agent on that machine."""
    return subprocess.run(
        [sys.executable, "-c", f"from agent import place, vllm_versions; print({expression})"],
        env={**machine.environ, "PYTHONPATH": str(SCRIPT.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_what_is_large_goes_to_the_other_disk_and_stays_there(machine: Machine) -> None:
    big = machine.folder / "big"
    setup(machine, "--home", f"{big}/")
    assert machine.venv.readlink() == big / "pi-vllm/venvs/0.32.0"
    assert (machine.home / ".cache/huggingface").readlink() == big / "huggingface"
    assert not (machine.home / ".pi/venvs").exists()
    lines = (machine.home / ".pi/env").read_text().splitlines()
    values = dict(shlex.split(line)[1].split("=", 1) for line in lines)
    for name in ("FLASHINFER_WORKSPACE_BASE", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TILELANG_CACHE_DIR"):
        assert values[name].startswith(f"{big}/pi-vllm/cache")
    assert values["PI_VLLM_CACHE"] == f"{big}/vllm-cache/NVIDIA-H100-80GB-HBM3"
    assert agents(machine, "place.chosen(), *vllm_versions.versions()") == f"{big} 0.32.0"
    assert str(big / "pi-vllm/venvs") in agents(machine, "place.folders()")
    machine.forget_calls()
    again = setup(machine)
    assert "vllm * vLLM 0.32.0 is already installed" in again.stdout
    assert [call for call in machine.calls("uv") if " install " in call] == ["uv pip install --help"]


def test_uv_gets_a_cache_and_pythons_on_the_other_disk(machine: Machine) -> None:
    machine.install("uv.real", (machine.folder / "bin/uv").read_text().partition("\n")[2])
    machine.install("uv", 'echo "$UV_CACHE_DIR,$UV_PYTHON_INSTALL_DIR,$TMPDIR" > "$MACHINE/given"; exec uv.real "$@"')
    setup(machine, "--home", str(machine.folder / "big"))
    place = machine.folder / "big/pi-vllm"
    assert (machine.folder / "given").read_text() == f"{place}/uv-cache,{place}/python,{place}/tmp\n"


def test_another_home_keeps_the_old_environment_and_says_how_to_delete_it(machine: Machine) -> None:
    big, other = machine.folder / "big", machine.folder / "other"
    setup(machine, "--home", str(big))
    done = setup(machine, "--home", str(other))
    assert machine.venv.readlink() == other / "pi-vllm/venvs/0.32.0"
    assert not list(machine.home.glob("venv.before-setup*"))
    old = big / "pi-vllm/venvs"
    assert (old / "0.32.0/bin/vllm").exists()
    kept = f"vllm ! the previous vLLM is kept in {old}; when no model runs from it any more, `rm -r {old}"
    assert kept in done.stdout
    assert (machine.home / ".cache/huggingface").readlink() == other / "huggingface"
    assert agents(machine, "place.roots()") == str([f"{other}/pi-vllm", f"{big}/pi-vllm"])

    machine.put_disks(("/", "ext4", 30), (big, "xfs", 3000), (other, "ext4", 40))
    setup(machine, "--home", "~")
    assert machine.venv.readlink() == machine.home / ".pi/venvs/0.32.0"
    assert not (machine.home / ".cache/huggingface").is_symlink()
    assert agents(machine, "place.chosen(), vllm_versions.version()") == "None 0.32.0"
    setup(machine, "--last-home", str(big))
    assert machine.venv.readlink() == machine.home / ".pi/venvs/0.32.0"


def test_models_stay_in_a_folder_that_was_chosen_for_them(machine: Machine) -> None:
    setup(machine, "--home", str(machine.folder / "big"), "--models-path", str(machine.folder / "other"))
    setup(machine)
    assert (machine.home / ".cache/huggingface").readlink() == machine.folder / "other/huggingface"


def test_a_disk_that_a_stop_has_erased_gets_everything_again(machine: Machine) -> None:
    big = machine.folder / "big"
    setup(machine, "--home", str(big))
    subprocess.run(["rm", "-r", *big.iterdir()], check=True)
    assert agents(machine, "vllm_versions.version()") == "None"
    done = setup(machine)
    assert f"machine ! vLLM was in {big}/pi-vllm, which is gone: it is installed there again\n" in done.stdout
    assert (machine.venv / "bin/vllm").exists()


def test_a_disk_that_is_not_mounted_any_more_is_not_replaced_by_the_root_disk(machine: Machine) -> None:
    big = machine.folder / "big"
    setup(machine, "--home", str(big))
    subprocess.run(["rm", "-r", *big.iterdir()], check=True)
    machine.put_disks(("/", "ext4", 40))
    reason = f"{big} is not on a disk of its own any more, and what was there is gone: mount the disk again, or choose"
    assert refusal(preflight(machine)).startswith(reason)
    passes(preflight(machine, "--home", str(big)))


def test_a_machine_that_forgot_its_home_gets_it_from_the_laptop(machine: Machine) -> None:
    setup(machine, "--last-home", str(machine.folder / "big"))
    assert machine.venv.readlink().is_relative_to(machine.folder / "big")


def test_two_machines_with_one_disk_have_folders_of_their_own(machine: Machine, tmp_path: Path) -> None:
    second = Machine(tmp_path / "second")
    big = machine.folder / "big"
    for each, host in ((machine, "gpu01"), (second, "gpu02")):
        each.write("/proc/sys/kernel/hostname", f"{host}\n")
        each.put_disks(("/", "ext4", 40), (big, "nfs4", 900))
    setup(machine, "--home", str(big))
    done = setup(second, "--home", str(big))
    assert second.venv.readlink() == big / "pi-vllm/venvs/0.32.0", "what works there is not installed again"
    assert not any(" --torch-backend" in call for call in second.calls("uv"))
    setup(second, "--vllm", "0.31.0")
    assert second.venv.readlink() == big / "pi-vllm/machines/gpu02/venvs/0.31.0"
    assert machine.venv.readlink() == big / "pi-vllm/venvs/0.32.0"
    assert f"machine ! vLLM will be on a network file system, {big} (nfs4): " in done.stdout
    setup(second)
    assert agents(second, "place.root()") == f"{big}/pi-vllm/machines/gpu02"
    assert "gpu02" not in agents(machine, "place.folders()")


def test_a_folder_of_another_user_is_not_used(machine: Machine) -> None:
    planted = machine.folder / "big/pi-vllm"
    planted.mkdir()
    planted.chmod(0o777)
    done = machine.setup("--home", str(machine.folder / "big"))
    assert done.returncode == 10
    assert f"lock x {planted} belongs to another user, or others can write to it" in done.stdout


# The preflight


def test_a_small_root_is_refused_with_the_disk_that_has_room(machine: Machine) -> None:
    big = machine.folder / "big"
    done = preflight(machine)
    reason = f"the disk of / is too small: setup needs 14 GB there, and 8 GB are free; vLLM can go to {big} (xfs, "
    assert refusal(done).startswith(reason)
    assert proposals(done) == [f"--home {big}"]
    passes(preflight(machine, "--home", str(big)))
    assert proposals(preflight(machine, "--models-path", str(machine.folder / "other/models"))) == [
        f"--home {machine.folder}/other/models"
    ]
    machine.put_disks(("/", "ext4", 8), (big, "xfs ro", 3000), (machine.folder / "other", "ext4 rw,noexec", 40))
    assert proposals(preflight(machine)) == []


def test_a_linked_pi_folder_is_measured_where_it_leads(machine: Machine) -> None:
    (machine.folder / "big/pi").mkdir()
    (machine.home / ".pi").symlink_to(machine.folder / "big/pi")
    (machine.home / ".cache").symlink_to(machine.folder / "big")
    passes(preflight(machine))


@pytest.mark.parametrize(
    ("variable", "why"),
    [("UV_NO_CACHE=1", "UV_NO_CACHE is set"), ("UV_LINK_MODE=copy", "UV_LINK_MODE is copy")],
)
def test_two_copies_are_counted_where_uv_cannot_link(machine: Machine, variable: str, why: str) -> None:
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text(f"export {variable}\n")
    machine.put_disks(("/", "ext4", 20))
    reason = f"the disk of / is too small: setup needs 27 GB there (two copies, since {why}), and 20 GB are free"
    assert refusal(preflight(machine)) == reason


def test_a_cache_on_another_file_system_takes_space_there(machine: Machine) -> None:
    if Path("/dev/shm").stat().st_dev == machine.home.stat().st_dev:
        pytest.skip("/dev/shm is not a file system of its own here")
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/env").write_text("export UV_CACHE_DIR=/dev/shm/uv\n")
    machine.put_disks(("/", "ext4", 20), ("/dev/shm", "tmpfs", 5))
    assert refusal(preflight(machine)).startswith("the disk of /dev/shm is too small: setup needs 13 GB there")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("ext4 ro", "is mounted read-only"),
        ("ext4 rw,nosuid,noexec", "is mounted noexec: no program can run from there"),
        ("exfat", "has a file system without links (exfat), which Python's environments need"),
    ],
)
def test_a_disk_from_which_no_program_can_run_is_found_first(machine: Machine, kind: str, reason: str) -> None:
    home = machine.home
    machine.put_disks(("/", "ext4", 40), (home, kind, 40), (machine.folder / "big", "xfs", 3000))
    done = preflight(machine)
    assert refusal(done).startswith(f"vLLM cannot be installed in {home}/.pi: {home} {reason}; ")
    assert proposals(done) == [f"--home {machine.folder}/big"]
    passes(preflight(machine, "--home", str(machine.folder / "big")))


def test_a_tmp_without_execute_rights_moves_what_is_compiled_there(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 40), ("/tmp", "tmpfs rw,nosuid,noexec", 4), (machine.folder, "ext4", 40))
    setup(machine)
    assert "TORCHINDUCTOR_CACHE_DIR=" in (machine.home / ".pi/env").read_text()


def test_a_home_on_a_network_share_is_said_to_be_slow_and_a_local_disk_is_named(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 40), (machine.home, "nfs4", 900), (machine.folder / "big", "xfs", 3000))
    (warning,) = messages(preflight(machine), "!")
    assert warning.startswith(f"vLLM will be on a network file system, {machine.home} (nfs4)")
    assert f"--home {machine.folder}/big" in warning


def test_a_disk_without_inodes_is_refused(machine: Machine) -> None:
    machine.install(
        "df",
        'echo H\ncase "$1" in -Pi) echo "/dev/vda 100000 99000 1000 99% /" ;; *)'
        ' echo "/dev/vda ext4 1 1 852000000 1% /" ;; esac',
    )
    assert refusal(preflight(machine)).startswith("the disk of / has room for 1000 more files, and vLLM has 80000")


@pytest.mark.parametrize("folder", ["relative", "/"])
def test_a_home_that_is_not_a_folder_is_refused(machine: Machine, folder: str) -> None:
    done = machine.setup("--home", folder)
    assert done.returncode == 2
    assert "error: --home must be an absolute folder" in done.stderr


def test_a_home_on_the_volume_of_the_mount_command_waits_for_it(machine: Machine) -> None:
    volume = machine.folder / "big"
    mounts = (machine.root / "proc/self/mounts").read_text().splitlines(keepends=True)
    machine.write("/proc/self/mounts", "".join(line for line in mounts if str(volume) not in line))
    done = setup(machine, "--home", str(volume), "--mount", f"mount -t nfs server:/share {volume}")
    assert done.stdout.index("<== storage: done") < done.stdout.index("==> place: Checking the disk for vLLM")
    assert done.stdout.index("<== place: done") < done.stdout.index("==> vllm: Installing vLLM")
    assert machine.venv.readlink() == volume / "pi-vllm/venvs/0.32.0"
    again = setup(machine, "--home", str(volume), "--mount", f"mount -t nfs server:/share {volume}")
    assert "==> place:" not in again.stdout, "it is mounted, so the preflight has checked it"
    assert "command not found" not in again.stdout + again.stderr


def test_a_home_of_the_user_may_be_meant_from_the_pods_home(machine: Machine) -> None:
    machine.put_disks(("/", "ext4", 40))
    setup(machine, "--home", "~/big")
    assert machine.venv.readlink() == machine.home / "big/pi-vllm/venvs/0.32.0"
    assert agents(machine, "place.chosen()") == f"{machine.home}/big"
    setup(machine, "--home", "$HOME")
    assert agents(machine, "place.chosen()") == "None"

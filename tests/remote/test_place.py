"""`remote/setup/place.sh` and `remote/agent/machine.py`: which machine this is, and which places are its own."""

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.remote.machine import SCRIPT, Machine

AGENT = SCRIPT.parent  # has the package `agent`
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
ID = "3f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+abcd/EFGH1234 root@gpu01\n"
DOCKER = "4c1b2a3d5e6f" + 26 * "07"
POD = "9f0c9a41-7a8f-4f5b-9d0d-5d2b7f4c1a2e"
NFS = "server:/home {home} nfs4 rw 0 0\n"


def describe(
    machine: Machine, *, host: str = "gpu01", machine_id: str | None = ID, key: str = KEY, hosts: str = "/etc/hosts"
) -> str:
    """Give this machine these properties, and return its identity; `hosts` is what is mounted on /etc/hosts."""
    machine.write("/proc/sys/kernel/hostname", f"{host}\n")
    if machine_id is not None:
        machine.write("/etc/machine-id", f"{machine_id}\n")
    if key:
        machine.write("/etc/ssh/ssh_host_ed25519_key.pub", key)
    lines = ["21 1 254:0 / / rw - ext4 /dev/vda rw", f"90 21 254:0 {hosts} /etc/hosts rw - ext4 /dev/vda rw"]
    machine.write("/proc/self/mountinfo", "\n".join(lines[: 1 if hosts == "/etc/hosts" else 2]) + "\n")
    identity = machine.call("machine_identity").strip()
    assert identity == of_the_agent(machine, "ID")
    return identity


def of_the_agent(machine: Machine, name: str) -> str:
    """Return a constant of `agent.machine`, as the agent on that machine has it."""
    return subprocess.run(
        [sys.executable, "-c", f"from agent import machine; print(machine.{name})"],
        env={**machine.environ, "PYTHONPATH": str(AGENT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_a_machine_is_known_by_its_id_its_host_key_and_its_name(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert describe(machine) == "gpu01-3f9a8b7c-EFGH1234"
    assert describe(machine, host="gpu-02.lab") == "gpu02.lab-3f9a8b7c-EFGH1234"
    assert describe(machine, key=KEY.replace("EFGH1234", "EFGH/56+78")) == "gpu01-3f9a8b7c-EFGH5678"


@pytest.mark.parametrize("machine_id", ["uninitialized", "", None])
def test_the_host_key_is_enough_where_an_image_has_no_machine_id(tmp_path: Path, machine_id: str | None) -> None:
    assert describe(Machine(tmp_path), machine_id=machine_id) == "gpu01-EFGH1234"


def test_a_machine_without_anything_has_an_identity_all_the_same(tmp_path: Path) -> None:
    assert describe(Machine(tmp_path), host="", machine_id=None, key="") == "machine"


def test_two_containers_of_one_image_differ_and_keep_their_identity(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    docker = describe(machine, host=DOCKER[:12], hosts=f"/var/lib/docker/containers/{DOCKER}/hosts")
    assert docker == DOCKER[:12]
    other = DOCKER[::-1]
    assert describe(machine, host="gpu01", hosts=f"/var/lib/docker/containers/{other}/hosts") == f"gpu01-{other[:12]}"
    nested = f"/docker/volumes/{DOCKER}/_data/lib/kubelet/pods/{POD}/etc-hosts"
    assert describe(machine, host="vllm-0", hosts=nested) == "vllm0-9f0c9a417a8f"


def test_a_file_of_the_machine_on_etc_hosts_is_not_the_sign_of_a_container(tmp_path: Path) -> None:
    """Apptainer mounts that of the host, and a user may mount one."""
    machine = Machine(tmp_path)
    assert describe(machine, hosts="/srv/hosts") == "gpu01-3f9a8b7c-EFGH1234"
    assert machine.setup().returncode == 0


def place(machine: Machine) -> str:
    """Return the folder of this machine below its home, on which setup and the agent agree."""
    folder = machine.call("eval", 'find_the_place; echo "$pi_home"').strip()
    assert folder == of_the_agent(machine, "PLACE")
    return str(Path(folder).relative_to(machine.home))


def test_the_first_machine_has_the_usual_places_and_the_second_its_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    first = describe(machine)
    assert machine.setup().returncode == 0
    assert (machine.home / ".pi/machine").read_text() == f"{first} {BOOT}\n"
    assert place(machine) == ".pi"
    second = describe(machine, host="gpu02")
    assert place(machine) == f".pi/machines/{second}"
    assert of_the_agent(machine, "LOGS") == f"{machine.home}/.vllm_logs/{second}"
    assert of_the_agent(machine, "VENV") == f"{machine.home}/venv"  # until it has one of its own
    done = machine.setup()
    assert f"lock * other machines have this home folder too: what is for this one is in {machine.home}" in done.stdout
    assert of_the_agent(machine, "VENV") == f"{machine.home}/.pi/machines/{second}/venv"
    describe(machine)
    assert place(machine) == ".pi"


def test_a_machine_whose_identity_has_changed_keeps_a_home_on_a_local_disk_after_a_reboot(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    describe(machine)
    assert machine.setup().returncode == 0
    claim = machine.home / ".pi/machine"
    claim.write_text(claim.read_text().replace(BOOT, "an-earlier-boot"))
    renamed = describe(machine, host="renamed")
    assert place(machine) == ".pi"
    assert "vllm: skipped" in machine.setup().stdout
    assert claim.read_text() == f"{renamed} {BOOT}\n"


def test_on_a_share_that_an_older_pi_has_prepared_every_machine_gets_places_of_its_own(tmp_path: Path) -> None:
    """Nothing says for which machine that was."""
    machine = Machine(tmp_path)
    assert machine.setup().returncode == 0
    (machine.home / ".pi/machine").unlink()
    env = (machine.home / ".pi/env").read_text()
    machine.write("/proc/self/mounts", "/dev/vda / ext4 rw 0 0\n" + NFS.format(home=str(tmp_path)))
    identity = describe(machine)
    machine.forget_calls()
    done = machine.setup("--flashinfer", "source")
    assert done.returncode == 0, done.stdout
    assert "vllm * vLLM 0.32.0 is already installed\n" in done.stdout
    assert "kernels * other machines use this vLLM too: it is not changed\n" in done.stdout
    assert not [call for call in machine.calls("uv") if "install" in call and "--help" not in call]
    own = machine.home / ".pi/machines" / identity
    assert (own / "venv").readlink() == machine.venv.readlink() == machine.home / ".pi/venvs/0.32.0"
    assert (machine.home / ".pi/env").read_text() == env
    assert not (machine.home / ".pi/machine").exists()


def test_machines_with_different_drivers_have_a_vllm_and_variables_of_their_own(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    describe(machine)
    assert machine.setup("--models-path", str(tmp_path / "models")).returncode == 0
    first = {path: path.stat().st_mtime_ns for path in (machine.home / ".pi/venvs").rglob("*")}
    second = describe(machine, host="gpu02")
    machine.install(
        "nvidia-smi",
        """case "$*" in
             *query-gpu*) echo "NVIDIA H100 80GB HBM3, 550.54.14, Disabled, 9.0" ;;
             "") echo "| NVIDIA-SMI 550.54.14   Driver Version: 550.54.14     CUDA Version: 12.4     |" ;;
           esac""",
    )
    done = machine.setup("--models-path", str(tmp_path / "models"))
    assert done.returncode == 0, done.stdout
    own = machine.home / ".pi/machines" / second
    assert machine.venv.readlink() == machine.home / ".pi/venvs/0.32.0"
    assert (own / "venv").readlink().parent == own / "venvs"
    assert {path: path.stat().st_mtime_ns for path in (machine.home / ".pi/venvs").rglob("*")} == first
    assert f"export HF_HOME='{tmp_path}/models/huggingface'\n" in (own / "env").read_text()
    assert (own / "env").read_text().startswith("unset CUDA_HOME ")


def test_a_vllm_that_another_machine_uses_is_not_replaced(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    describe(machine)
    assert machine.setup().returncode == 0
    second = describe(machine, host="gpu02")
    assert machine.setup().returncode == 0
    describe(machine)
    (machine.home / ".pi/venvs/0.32.0/.pi-works").unlink()
    (machine.home / ".pi/venvs/0.32.0/bin/vllm").write_text("#!/bin/sh\nexit 1\n")
    done = machine.setup()
    assert f"vllm x another machine with this home folder uses vLLM 0.32.0 too ({second}): it is not" in done.stdout


def test_a_setup_of_another_machine_is_not_waited_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    describe(machine)
    assert machine.setup().returncode == 0
    describe(machine, host="gpu02")
    with (machine.home / ".pi/setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = machine.setup(before="lock_timeout=0")
    assert done.returncode == 0, done.stdout


NO_LOCKS = """
exec python3 - "$@" << 'END'
import fcntl, os, sys
if os.readlink("/proc/self/fd/9").startswith(os.environ["HOME"]):
    sys.exit(71)  # flock: 9: No locks available
os.execv("/usr/bin/flock", ["flock", *sys.argv[1:]])
END
"""


def test_on_a_share_without_locks_the_lock_is_elsewhere_and_the_share_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    describe(machine, host=f"t{os.getpid()}")
    machine.install("flock", NO_LOCKS)
    shows_cache = 'echo "$UV_CACHE_DIR" > "$MACHINE/cache"; cat "${0%/bin/vllm}/version"'
    machine.install("installed/vllm", shows_cache)
    (machine.home / ".pi").mkdir()
    (machine.home / ".pi/setup.lock").write_text("pid 53 since long ago\n")
    local = Path(f"/dev/shm/pi-setup-{os.getuid()}-t{os.getpid()}-3f9a8b7c-EFGH1234.lock")
    try:
        done = machine.setup()
        assert done.returncode == 0, done.stdout
        assert f"lock ! the file system of {machine.home}/.pi has no locks: setup uses {local} instead" in done.stdout
        assert local.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "cache").read_text() == f"/var/tmp/pi-uv-{os.getuid()}\n"
        with local.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            again = machine.setup(before="lock_timeout=0")
        assert "lock x another setup of this machine is running: pid " in again.stdout
        assert "pid 53" not in again.stdout
    finally:
        local.unlink()
        with suppress(OSError):  # it was there before, and is used
            Path(f"/var/tmp/pi-uv-{os.getuid()}").rmdir()

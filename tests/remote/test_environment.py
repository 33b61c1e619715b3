"""`remote/setup/environment.sh`: the environment of launches, downloads and login shells."""

import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def setup(machine: Machine, *arguments: str, before: str = ":") -> subprocess.CompletedProcess[str]:
    done = machine.setup(*arguments, before=before)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def environment(machine: Machine) -> dict[str, str]:
    """Return the variables in `~/.pi/env`, unexpanded."""
    lines = [shlex.split(line) for line in (machine.home / ".pi/env").read_text().splitlines()]
    assert all(word == "export" for word, _ in lines)
    return dict(assignment.split("=", 1) for _, assignment in lines)


def test_the_environment_file_is_private_and_quoted(machine: Machine) -> None:
    machine.environ |= {"SSL_CERT_FILE": "/a $b/`c`/it's", "HF_TOKEN": "hf_secret"}
    setup(machine)
    file = machine.home / ".pi/env"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    assert environment(machine) == {
        "PATH": f"{machine.venv}/bin:$PATH",
        "VLLM_NO_USAGE_STATS": "1",
        "SSL_CERT_FILE": "/a $b/`c`/it's",
    }
    sourced = subprocess.run(
        ["bash", "-c", '. "$1"; printf %s "$SSL_CERT_FILE"', "bash", file], capture_output=True, text=True
    )
    assert sourced.stdout == "/a $b/`c`/it's"


def test_models_and_compiled_kernels_are_on_the_volume(machine: Machine) -> None:
    setup(machine, "--models-path", str(machine.folder / "disk"))
    assert environment(machine)["HF_HOME"] == f"{machine.folder}/disk/huggingface"
    assert environment(machine)["PI_VLLM_CACHE"] == f"{machine.folder}/disk/vllm-cache/NVIDIA-H100-80GB-HBM3"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("", "cpu"),
        ("NVIDIA L4\nNVIDIA L4\n", "NVIDIA-L4"),
        ("NVIDIA L4\nTesla T4", "NVIDIA-L4+Tesla-T4"),
        ("a/../b", "a-..-b"),
    ],
)
def test_compiled_kernels_are_kept_per_kind_of_gpu(machine: Machine, names: str, kind: str) -> None:
    assert machine.call("kind_of_gpus", before=f"gpu_names={shlex.quote(names.strip())}") == f"{kind}\n"


def test_the_toolkit_is_on_the_path(machine: Machine) -> None:
    before = "cuda_home() { echo /usr/local/cuda-13.0; }; cuda_compat() { echo /usr/local/cuda-13.0/compat; }"
    setup(machine, before=before)
    assert environment(machine)["CUDA_HOME"] == "/usr/local/cuda-13.0"
    assert environment(machine)["PATH"] == f"{machine.venv}/bin:/usr/local/cuda-13.0/bin:$PATH"
    assert environment(machine)["VLLM_ENABLE_CUDA_COMPATIBILITY"] == "1"
    assert environment(machine)["VLLM_CUDA_COMPATIBILITY_PATH"] == "/usr/local/cuda-13.0/compat"


def test_a_cpu_build_gets_its_target_device(machine: Machine) -> None:
    setup(machine, "--cpu")
    assert environment(machine)["VLLM_TARGET_DEVICE"] == "cpu"


def test_the_provider_is_written_down_for_the_agent(machine: Machine) -> None:
    machine.write("/proc/1/environ", "RUNPOD_POD_ID=abc\0")
    setup(machine)
    assert (machine.home / ".pi/provider").read_text() == "runpod\n"


def test_login_shells_are_not_changed_unless_requested(machine: Machine) -> None:
    setup(machine)
    assert sorted(path.name for path in machine.home.iterdir()) == [".pi", "venv"]


def test_login_shells_get_one_line_and_only_once(machine: Machine) -> None:
    (machine.home / ".bashrc").write_text("alias ll='ls -l'")  # no end of line
    (machine.home / ".bashrc").chmod(0o640)
    (machine.home / ".zshrc").write_text("# mine\n")
    setup(machine, "--shell-env")
    bashrc = (machine.home / ".bashrc").read_text()
    first, line = bashrc.splitlines()
    assert first == "alias ll='ls -l'"
    assert line.endswith("# by pi pods setup")
    assert stat.S_IMODE((machine.home / ".bashrc").stat().st_mode) == 0o640
    assert (machine.home / ".profile").read_text() == f"{line}\n"
    assert (machine.home / ".zshrc").read_text() == f"# mine\n{line}\n"
    assert not (machine.home / ".bash_profile").exists()
    setup(machine, "--shell-env")
    setup(machine)
    assert (machine.home / ".bashrc").read_text() == bashrc


def test_a_login_shell_finds_vllm_and_keeps_its_own_path(machine: Machine) -> None:
    setup(machine, "--shell-env", "--models-path", str(machine.folder / "disk"))
    code = 'PATH="/mine:$PATH"; . ~/.profile; . ~/.bashrc; printf "%s\\n" "$PATH" "$HF_HOME"'
    done = subprocess.run(["sh", "-c", code], env={"HOME": str(machine.home), "PATH": "/bin"}, capture_output=True)
    assert done.stdout.decode().splitlines() == [
        f"{machine.venv}/bin:/mine:/bin",
        f"{machine.folder}/disk/huggingface",
    ]

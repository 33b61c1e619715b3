"""`remote/setup/cuda.sh` with real apt on a bare Debian, against a repository on this machine.

SIMULATED: the GPU, and what is in NVIDIA's packages. Real: apt, dpkg, curl, the layout of the repository, the names.
"""

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.lab.openssh import FAKE_NVIDIA_SMI, OpensshPod

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("cuda_repository")]

REMOTE = Path(__file__).parents[2] / "remote"
FOLDER = f"debian12/{'sbsa' if os.uname().machine == 'aarch64' else 'x86_64'}"
ENTRY = f"cuda-{FOLDER.replace('/', '-')}.list"
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos"
NVCC = """#!/bin/sh
echo "Cuda compilation tools, release VERSION, VVERSION.48"
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Repository:
    """A folder of packages with its index, as below https://developer.download.nvidia.com/compute/cuda/repos."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / FOLDER
        self.folder.mkdir(parents=True)
        self.index: list[str] = []

    def add(self, name: str, files: dict[str, str], *, depends: str = "") -> Path:
        tree = self.root / "trees" / name
        fields = f"Package: {name}\nVersion: 1.0-1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        fields += f"Depends: {depends}\n" if depends else ""
        for path, text in {"DEBIAN/control": f"{fields}Description: simulated\n", **files}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
            (tree / path).chmod(0o755 if "/bin/" in path else 0o644)
        file = self.folder / f"{name}_1.0-1_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, file], check=True, capture_output=True)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.index.append(f"{fields}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {digest}\n")
        (self.folder / "Packages").write_text("\n".join(self.index))
        return file

    def add_toolkit(self, version: str) -> None:
        home, dashed = f"usr/local/cuda-{version}", version.replace(".", "-")
        headers = {"cuda-cudart": "cuda_runtime.h", "cuda-nvrtc": "nvrtc.h", "libcurand": "curand.h"}
        for name, header in {**headers, "libcublas": "cublas_v2.h"}.items():
            self.add(f"{name}-dev-{dashed}", {f"{home}/include/{header}": ""})
        self.add(f"cuda-nvcc-{dashed}", {f"{home}/bin/nvcc": NVCC.replace("VERSION", version)})
        self.add(f"cuda-cuobjdump-{dashed}", {f"{home}/bin/cuobjdump": ""})
        self.add(f"cuda-compat-{dashed}", {f"{home}/compat/libcuda.so.1": ""})
        self.add(f"cuda-toolkit-{dashed}", {f"{home}/full": ""}, depends=f"cuda-nvcc-{dashed}")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = Repository(tmp_path_factory.mktemp("repos"))
    for version in ("12.8", "12.9", "13.0", "13.1"):
        made.add_toolkit(version)
    entry = f"deb [trusted=yes] {NVIDIA}/{FOLDER}/ /\n"
    keyring = made.add("cuda-keyring", {f"etc/apt/sources.list.d/{ENTRY}": entry})
    shutil.copy(keyring, made.folder / "cuda-keyring_1.1-1_all.deb")
    return made


@pytest.fixture
def pod(openssh_pod: OpensshPod) -> OpensshPod:
    """A pod with a simulated GPU, its driver's version in `~/driver`, where the essentials are in place."""
    openssh_pod.install("nvidia-smi", FAKE_NVIDIA_SMI)
    shutil.copytree(REMOTE, openssh_pod.home / "remote")
    openssh_pod.check("apt-get -q update && apt-get -qy install --no-install-recommends curl python3", timeout=300)
    return openssh_pod


@pytest.fixture
def address(pod: OpensshPod, repository: Repository) -> Iterator[str]:
    """Where the pod finds the repository."""
    with ThreadingHTTPServer((pod.host, 0), partial(Quiet, directory=str(repository.root))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://{pod.host}:{server.server_port}"
        server.shutdown()
        serving.join()


def cuda(pod: OpensshPod, address: str, *arguments: str) -> str:
    """Run the preflight and the step on the pod; return what the step printed, and the two folders after it."""
    code = f"""
        export PI_CUDA_REPOSITORY={address}
        . ~/remote/pod_setup.sh
        trap 'on_exit $?' EXIT
        read_arguments "$@"
        mkdir -p "$pi_home"
        step machine 11 'Checking the machine' check_the_machine > ~/preflight
        step cuda 18 'Installing the CUDA toolkit' install_cuda
        echo "home $(cuda_home)" "compat $(cuda_compat)"
    """
    words = " ".join(arguments)
    (pod.home / "cuda.sh").write_text(code)
    done = pod.run(f"bash ~/cuda.sh {words}", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_toolkit_for_the_wheel_is_installed_once(pod: OpensshPod, address: str) -> None:
    out = cuda(pod, address)
    assert "    cuda * installed CUDA 13.0 in /usr/local/cuda-13.0\n" in out
    assert "<== cuda: done\n" in out
    assert out.endswith("home /usr/local/cuda-13.0 compat \n")
    installed = set(pod.check("dpkg-query -W -f '${Package}\\n' 'cuda-*' 'libcu*-dev-*'").split())
    assert installed == {
        *("cuda-keyring", "cuda-nvcc-13-0", "cuda-cudart-dev-13-0", "cuda-nvrtc-dev-13-0", "cuda-cuobjdump-13-0"),
        *("libcurand-dev-13-0", "libcublas-dev-13-0"),
    }
    pod.check("touch ~/before")
    again = cuda(pod, address)
    assert "    cuda * already installed: /usr/local/cuda-13.0\n<== cuda: skipped\n" in again
    assert pod.check("find /usr /etc /var/lib -newer ~/before") == ""
    assert "<== cuda: done\n" in cuda(pod, address, "--cuda", "full")
    assert pod.check("ls /usr/local/cuda-13.0/full")


def test_an_older_driver_gets_the_toolkit_of_its_wheel_and_what_helps_it(pod: OpensshPod, address: str) -> None:
    old = FAKE_NVIDIA_SMI.replace("580.95.05", "570.86.15").replace("cuda=13.0", "cuda=12.8")
    pod.install("nvidia-smi", old)
    out = cuda(pod, address)
    assert "    cuda * installed CUDA 12.9 in /usr/local/cuda-12.9\n" in out
    assert out.endswith("home /usr/local/cuda-12.9 compat /usr/local/cuda-12.9/compat\n")


def test_an_entry_of_the_image_is_used_unchanged(pod: OpensshPod, address: str) -> None:
    (pod.root / "etc/apt/sources.list.d/cuda.list").write_text(f"deb [trusted=yes] {address}/{FOLDER} /\n")
    assert "    cuda * installed CUDA 13.0 in /usr/local/cuda-13.0\n" in cuda(pod, address)
    assert pod.run("dpkg-query -W cuda-keyring").returncode != 0
    assert pod.check("ls /etc/apt/sources.list.d") == "cuda.list\n"


def test_a_repository_out_of_reach_costs_only_the_toolkit(pod: OpensshPod) -> None:
    out = cuda(pod, "http://127.0.0.1:9")
    missing = f"http://127.0.0.1:9/{FOLDER}/cuda-keyring_1.1-1_all.deb"
    assert f"    cuda ! no CUDA toolkit: the machine cannot download {missing}. vLLM runs with" in out
    assert out.endswith("<== cuda: skipped\nhome  compat \n")
    assert pod.check("ls /etc/apt/sources.list.d; ls -d /tmp/tmp.* 2> /dev/null || true") == ""


def test_a_repository_without_the_toolkit_costs_only_the_toolkit(
    pod: OpensshPod, address: str, repository: Repository
) -> None:
    (repository.folder / "Packages").rename(repository.root / "kept")
    try:
        out = cuda(pod, address)
    finally:
        (repository.root / "kept").rename(repository.folder / "Packages")
    assert "    cuda ! no CUDA toolkit: " in out
    assert "<== cuda: skipped\n" in out

"""`remote/setup/cuda.sh`: which toolkit fits a build, where it comes from, and what happens without one."""

import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import ok

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

H100 = "driver_version=580.95.05 driver_cuda=13.0 gpu_names='NVIDIA H100 80GB HBM3' compute_capability=9.0"
ON_H100 = f"has_cuda_gpu=yes arch=x86_64 os_id=debian os_version=12 os_title='Debian 12' {H100}"
WITH_12_8 = f"{ON_H100}; driver_version=570.86.15 driver_cuda=12.8"
RTX_WITH_12_8 = f"{WITH_12_8}; gpu_names='NVIDIA GeForce RTX 4090' compute_capability=8.9"
WITHOUT = "vLLM runs with its prebuilt kernels; models that need other kernels compiled fail"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def toolkit(machine: Machine, version: str, *, headers: bool = True) -> Path:
    """Put a toolkit where NVIDIA's packages put it."""
    folder = f"/usr/local/cuda-{version}"
    machine.write(f"{folder}/bin/nvcc", f'#!/bin/sh\necho "Cuda compilation tools, release {version}, V{version}.86"\n')
    (machine.root / folder.lstrip("/") / "bin/nvcc").chmod(0o755)
    for header in ("cuda_runtime.h", "nvrtc.h", "curand.h", "cublas_v2.h") if headers else ():
        machine.write(f"{folder}/include/{header}", "")
    return machine.root / folder.lstrip("/")


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("13.0", "13-2 12-9 13-0 13-1", "13.0"),
        ("12.9", "12-3 12-9 12-8 13-0", "12.9"),
        ("12.9", "12-3 12-10 12-8 12-6", "12.8"),
        ("13.0", "13-3 13-1 13-2", "13.1"),  # as on Debian 13, which was added in a later 13.x
        ("12.9", "13-0 13-1", ""),
        ("13.0", "12-8 12-9", ""),  # Ubuntu 20.04, which CUDA 13 no longer supports
        ("13.0", "", ""),
    ],
)
def test_the_toolkit_is_the_wanted_one_or_the_nearest_of_its_major_version(
    machine: Machine, wanted: str, there: str, chosen: str
) -> None:
    packages = "".join(f"cuda-nvcc-{version}\\n" for version in there.split())
    code = f"toolkit_among {wanted} < <(printf 'cuda-nvcc-prev\\n{packages}')"
    assert machine.call("eval", code) == f"{chosen}\n"


@pytest.mark.parametrize(
    ("system", "version", "arch", "folder"),
    [
        ("debian", "12", "x86_64", "debian12/x86_64"),
        ("debian", "13", "aarch64", "debian13/sbsa"),
        ("debian", "", "x86_64", ""),
        ("debian", "14", "x86_64", ""),
        ("ubuntu", "20.04", "x86_64", "ubuntu2004/x86_64"),
        ("ubuntu", "22.04", "aarch64", "ubuntu2204/sbsa"),
        ("ubuntu", "24.04", "x86_64", "ubuntu2404/x86_64"),
        ("ubuntu", "25.10", "x86_64", "ubuntu2404/x86_64"),
        ("ubuntu", "26.04", "x86_64", "ubuntu2604/x86_64"),
        ("ubuntu", "", "x86_64", ""),
    ],
)
def test_each_system_gets_the_repository_for_it(
    machine: Machine, system: str, version: str, arch: str, folder: str
) -> None:
    settings = f"os_id={system} os_version='{version}' arch={arch}"
    assert machine.call("cuda_repository", before=settings).strip() == folder


def test_a_fitting_toolkit_is_kept_and_becomes_cuda_home(machine: Machine) -> None:
    home = toolkit(machine, "13.0")
    out = ok(machine.step("install_cuda", before=ON_H100))
    assert out == f"==> it: Doing it\n    it * already installed: {home}\n<== it: skipped\n"
    assert machine.call("cuda_home", before=ON_H100) == f"{home}\n"
    assert machine.calls("apt-get", "curl", "dpkg") == []


@pytest.mark.parametrize(
    ("versions", "settings", "home"),
    [
        (["12.9"], ON_H100, ""),  # another major version than the wheel's
        (["13.2", "13.0"], ON_H100, "13.0"),
        (["13.2"], ON_H100, "13.2"),
        (["11.8", "12.4"], WITH_12_8, "12.4"),
        (["12.8"], f"{WITH_12_8}; compute_capability=12.0", ""),  # Blackwell
        (["12.8"], f"{WITH_12_8}; compute_capability=10.0", "12.8"),
        (["12.9"], f"{WITH_12_8}; compute_capability=12.0", "12.9"),
        (["13.0"], f"{ON_H100}; has_cuda_gpu=", ""),
    ],
)
def test_a_toolkit_fits_by_its_major_version_and_the_gpu(
    machine: Machine, versions: list[str], settings: str, home: str
) -> None:
    folders = {version: toolkit(machine, version) for version in versions}
    assert machine.call("cuda_home", before=settings).strip() == str(folders.get(home, ""))


def test_a_compiler_without_headers_is_not_a_toolkit(machine: Machine) -> None:
    toolkit(machine, "13.0", headers=False)
    assert machine.call("cuda_home", before=ON_H100) == ""


@pytest.mark.parametrize(
    ("arguments", "settings", "why"),
    [(["--cuda", "none"], ON_H100, "--cuda none"), (["--cpu"], "", "vLLM's build for CPUs needs none")],
)
def test_no_toolkit_is_installed_if_none_is_needed(
    machine: Machine, arguments: list[str], settings: str, why: str
) -> None:
    out = ok(machine.step("install_cuda", *arguments, before=settings or ":"))
    assert out.endswith(f"    it * {why}\n<== it: skipped\n")
    assert machine.calls("apt-get", "curl", "dpkg") == []


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (
            ON_H100,
            (
                "the machine cannot download https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"
                "cuda-keyring_1.1-1_all.deb"
            ),
        ),
        (f"{ON_H100}; cuda_trouble='it needs root'", "it needs root"),
        (
            f"{ON_H100}; os_version= os_title='Kali 2026.1'",
            "NVIDIA has no packages for Kali 2026.1 on x86_64",
        ),
    ],
)
def test_without_a_toolkit_setup_continues_with_a_warning_unless_the_full_one_was_requested(
    machine: Machine, settings: str, why: str
) -> None:
    out = ok(machine.step("install_cuda", before=settings))
    assert f"    it ! no CUDA toolkit: {why}. {WITHOUT}\n" in out
    assert out.endswith("    it * not installed\n<== it: skipped\n")
    done = machine.step("install_cuda", "--cuda", "full", before=settings)
    assert done.returncode == 9
    assert f"    it x no CUDA toolkit: {why}\n" in done.stdout


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [(WITH_12_8, True), (RTX_WITH_12_8, False), (ON_H100, False), (f"{WITH_12_8}; driver_version=560.35.03", False)],
)
def test_cuda_compat_is_used_where_nvidia_supports_it(machine: Machine, settings: str, wanted: bool) -> None:
    assert machine.call("cuda_compat", before=settings) == ""
    machine.write("/usr/local/cuda-12.9/compat/libcuda.so.1", "")
    machine.write("/usr/local/cuda-13.0/compat/libcuda.so.1", "")
    expected = f"{machine.root}/usr/local/cuda-12.9/compat\n" if wanted else ""
    assert machine.call("cuda_compat", before=settings) == expected


def test_downloads_use_tls_and_a_fixed_version(machine: Machine) -> None:
    machine.step("install_cuda", before=ON_H100)
    (call,) = machine.calls("curl")
    assert "--proto =https --tlsv1.2" in call
    assert call.endswith("/cuda-keyring_1.1-1_all.deb")


ADDRESS = "developer.download.nvidia.com/compute/cuda/repos"
LINE = f"deb [signed-by=/x.gpg] https://{ADDRESS}/debian12/x86_64/ /"
STANZA = f"Types: deb\nURIs: https://{ADDRESS}/debian12/x86_64\nSuites: /\nSigned-By: /x.gpg\n"


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="apt itself says which entries it reads")
@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        pytest.param("cuda.list", LINE, True, id="list"),
        pytest.param("cuda.list", LINE.replace("https", "http"), True, id="http"),
        pytest.param("cuda.list", LINE.replace("x86_64/ /", "x86_64 /"), True, id="without-slash"),
        pytest.param("cuda.list", f"deb https://{ADDRESS} debian12/x86_64/", True, id="path-as-suite"),
        pytest.param("cuda.list", f"# {LINE}", False, id="comment"),
        pytest.param("cuda.list", LINE.replace("deb ", "deb-src "), False, id="sources-only"),
        pytest.param("cuda.list", LINE.replace("debian12", "debian13"), False, id="other-system"),
        pytest.param("cuda.list", LINE.replace("x86_64/", "x86_64-old/"), False, id="longer-name"),
        pytest.param("cuda.list.save", LINE, False, id="save"),
        pytest.param("cuda.list.disabled", LINE, False, id="disabled"),
        pytest.param("cuda list.list", LINE, False, id="space-in-name"),
        pytest.param("cuda.sources", STANZA, True, id="deb822"),
        pytest.param("cuda.sources", f"Enabled: yes\n{STANZA}", True, id="deb822-yes"),
        pytest.param("cuda.sources", f"Enabled: no\n{STANZA}", False, id="deb822-no"),
        pytest.param(
            "cuda.sources", "".join(f"# {line}\n" for line in STANZA.splitlines()), False, id="deb822-comment"
        ),
        pytest.param("cuda.sources", LINE, False, id="line-in-deb822"),
        pytest.param("cuda.list", STANZA, False, id="deb822-in-list"),
    ],
)
def test_an_entry_counts_if_apt_reads_it(machine: Machine, name: str, text: str, found: bool) -> None:
    folder = machine.root / "etc/apt/sources.list.d"
    machine.write(f"/etc/apt/sources.list.d/{name}", f"{text}\n")
    machine.install("apt-get", 'exec /usr/bin/apt-get "$@"')
    before = f"apt_sources='{machine.root}/etc/apt'"
    assert machine.call("entry_of_repository", "debian12/x86_64", before=before).strip() == (
        str(folder / name) if found else ""
    )


@pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="apt itself says which entries it reads")
def test_of_several_files_the_one_that_apt_reads_is_the_entry(machine: Machine) -> None:
    for name, text in [("a.list.save", LINE), ("b.sources", f"Enabled: no\n{STANZA}"), ("c.list", LINE)]:
        machine.write(f"/etc/apt/sources.list.d/{name}", f"{text}\n")
    machine.install("apt-get", 'exec /usr/bin/apt-get "$@"')
    before = f"apt_sources='{machine.root}/etc/apt'"
    found = machine.call("entry_of_repository", "debian12/x86_64", before=before)
    assert found == f"{machine.root}/etc/apt/sources.list.d/c.list\n"

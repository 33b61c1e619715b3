"""`remote/setup/builds.sh`: what a driver supports, and which vLLM and torch are installed for it, as a pair."""

import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.mark.parametrize(
    ("driver", "banner", "cuda"),
    [
        ("570.86.15", "CUDA Version: 12.8", "12.8"),
        ("610.57.04", "KMD Version: 610.57.04     CUDA UMD Version: 13.3", "13.3"),
        ("525.105.17", "CUDA Version: N/A", "12.0"),
        ("535.129.03", "CUDA Version: N/A", "12.2"),
        ("550.144.03", "", "12.4"),
        ("560.35.03", "", "12.6"),
        ("575.57.08", "", "12.9"),
        ("580.95.05", "CUDA Version: ERR!", "13.0"),
        ("595.10.01", "", "13.2"),
        ("470.57.02", "", "11.4"),
        ("418.226.00", "", "10.2"),
        # a compatibility library in the image: the branch is the limit
        ("550.54.15", "CUDA Version: 13.0", "12.4"),
        ("570.86.15", "CUDA Version: 13.0", "12.8"),
        ("535.183.06", "CUDA UMD Version: 13.2", "12.2"),
        ("580.95.05", "CUDA Version: 13.2", "13.0"),
        # an older library than the driver's is what programs load
        ("580.95.05", "CUDA Version: 12.8", "12.8"),
        ("470.57.02", "CUDA Version: 11.0", "11.0"),
        # newer than the table
        ("700.1", "", "13.3"),
        ("700.1", "CUDA Version: 14.1", "14.1"),
        ("615.10", "CUDA Version: 13.4", "13.4"),
        # drivers of Windows, as WSL shows them
        ("572.16", "CUDA Version: 12.8", "12.8"),
        ("581.29", "CUDA Version: 13.0", "13.0"),
        ("537.13", "CUDA Version: 13.0", "12.2"),
        ("528.33", "CUDA Version: 12.0", "12.0"),
        # Jetsons, whose numbers say nothing
        ("540.4.0", "CUDA Version: 12.6", "12.6"),
        ("540.3.0", "CUDA Version: 12.2", "12.2"),
        ("N/A", "CUDA Version: 12.6", "12.6"),
        # unknown
        ("[N/A]", "", ""),
        ("540.4.0", "CUDA Version: N/A", ""),
    ],
)
def test_the_cuda_of_a_driver_is_that_of_its_branch_or_less(
    machine: Machine, driver: str, banner: str, cuda: str
) -> None:
    assert machine.call("cuda_of_the_driver", driver, banner).strip() == cuda


@pytest.mark.parametrize("name", ["NVIDIA Thor", "Orin (nvgpu)", "NVIDIA Jetson AGX Orin"])
def test_the_banner_of_a_jetson_counts_whatever_its_branch(machine: Machine, name: str) -> None:
    before = f"gpu_names='{name}'"
    assert machine.call("cuda_of_the_driver", "580.00", "CUDA Version: 13.2", before=before) == "13.2\n"


@pytest.mark.parametrize(
    ("spec", "driver_cuda", "arch", "wheel", "backend"),
    [
        ("", "13.0", "x86_64", "default", "cu130"),
        ("release", "13.3", "x86_64", "default", "cu130"),  # `auto` would take cu132
        ("nightly", "14.0", "x86_64", "default", "cu130"),
        ("", "", "x86_64", "default", "cu130"),
        ("", "12.9", "x86_64", "cu129", "cu129"),
        ("nightly", "12.4", "aarch64", "cu129", "cu129"),
        ("0.33.0", "12.2", "x86_64", "cu129", "cu129"),
        ("0.33.0", "13.0", "aarch64", "default", "cu130"),
        ("0.20.0rc1", "13.0", "x86_64", "default", "cu130"),
        ("vllm==0.20.2", "12.0", "x86_64", "cu129", "cu129"),
        ("vllm[runai]==0.31.0", "12.8", "x86_64", "cu129", "cu129"),
        ("vllm>=0.30", "12.0", "x86_64", "cu129", "cu129"),
        ("0.19.1", "12.8", "x86_64", "default", "cu129"),
        ("0.19.1", "13.0", "x86_64", "default", "cu129"),  # `auto` would take cu130
        ("vllm==0.15.0", "13.0", "aarch64", "default", "cu129"),
        ("0.11.1", "13.0", "x86_64", "default", "cu129"),
        ("0.11.0", "13.0", "x86_64", "default", "cu128"),
        ("0.11.0", "13.0", "aarch64", "default", "cu129"),
        ("0.10.1.1", "12.4", "x86_64", "default", "cu128"),
        ("0.9.0", "12.2", "x86_64", "default", "cu128"),
        ("0.8.5", "13.0", "x86_64", "default", "cu124"),
        ("0.6.3", "12.4", "x86_64", "default", "cu121"),
        ("0.33.0+cu129", "13.0", "x86_64", "cu129", "cu129"),
        ("0.33.0+cu130", "13.0", "x86_64", "default", "cu130"),
        ("vllm==0.33.0+cu129", "12.4", "x86_64", "cu129", "cu129"),
        ("0.19.1+cu130", "13.0", "x86_64", "cu130", "cu130"),
        ("0.19.1+cu129", "12.4", "x86_64", "default", "cu129"),
        ("https://h/vllm-0.33.0-cp38-abi3-linux_x86_64.whl", "13.0", "x86_64", "default", "cu130"),
        ("https://h/vllm-0.19.1-cp38-abi3-linux_x86_64.whl", "13.0", "x86_64", "default", "cu129"),
        ("https://h/vllm-0.33.0%2Bcu129-cp38-abi3-linux_x86_64.whl", "13.0", "x86_64", "cu129", "cu129"),
        ("https://h/vllm-0.1.dev1+g5dbdc.cu128-cp313-linux_x86_64.whl", "13.0", "x86_64", "cu128", "cu128"),
        ("vllm @ https://wheels.vllm.ai/5dbdc/cu129/vllm-0.30.0-cp38.whl", "13.0", "x86_64", "cu129", "cu129"),
        ("/root/vllm-0.11.0-cp38-abi3-linux_x86_64.whl", "12.4", "x86_64", "default", "cu128"),
        ("git+https://github.com/vllm-project/vllm", "12.4", "x86_64", "cu129", "cu129"),
        ("git+https://github.com/vllm-project/vllm", "13.2", "x86_64", "default", "cu130"),
        ("our-vllm-fork", "12.4", "x86_64", "cu129", "cu129"),
    ],
)
def test_the_wheel_and_torch_are_a_pair_that_the_driver_runs(
    machine: Machine, spec: str, driver_cuda: str, arch: str, wheel: str, backend: str
) -> None:
    before = f"driver_cuda='{driver_cuda}' vllm_spec='{spec}' arch={arch}"
    assert machine.call("pair", before=before) == f"{wheel} {backend}\n"
    version = f"{backend[2:4]}.{backend[4]}\n"
    assert machine.call("cuda_of_the_wheel", before=before) == version


@pytest.mark.parametrize(
    ("spec", "driver_cuda"),
    [("", "11.8"), ("0.9.0", "11.0"), ("0.33.0+cu130", "12.8"), ("https://h/vllm-0.33.0+cu130-cp38.whl", "12.4")],
)
def test_there_is_no_pair_that_the_driver_cannot_run(machine: Machine, spec: str, driver_cuda: str) -> None:
    before = f"driver_cuda={driver_cuda} vllm_spec='{spec}'"
    assert machine.call("eval", "pair || echo none", before=before) == "none\n"


@pytest.mark.parametrize(
    ("first", "second", "is_before"),
    [("0.9.2", "0.10.0", True), ("0.20.0rc1", "0.20", False), ("0.11.0", "0.11.1", True), ("1.0", "0.33.0", False)],
)
def test_versions_of_vllm_are_compared_by_their_numbers(
    machine: Machine, first: str, second: str, is_before: bool
) -> None:
    code = f"is_before {first} {second} && echo yes || echo no"
    assert machine.call("eval", code) == ("yes\n" if is_before else "no\n")

"""`remote/setup/preflight.sh`: what it finds out about GPUs and drivers from nvidia-smi."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.machine import Machine
from tests.remote.outcome import messages, passes, refusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script is for pods, which run Linux")

GPUS = [
    # as `nvidia-smi --query-gpu=name` prints them, with their compute capability
    ("NVIDIA H100 80GB HBM3", "9.0"),
    ("NVIDIA H100 PCIe", "9.0"),
    ("NVIDIA H100 NVL", "9.0"),
    ("NVIDIA H200", "9.0"),
    ("NVIDIA H200 NVL", "9.0"),
    ("NVIDIA H20", "9.0"),
    ("NVIDIA H20-3e", "9.0"),
    ("NVIDIA H800", "9.0"),
    ("NVIDIA GH200 480GB", "9.0"),
    ("NVIDIA GH200 144G HBM3e", "9.0"),
    ("NVIDIA A100-SXM4-80GB", "8.0"),
    ("NVIDIA A100 80GB PCIe", "8.0"),
    ("NVIDIA A100-SXM4-40GB", "8.0"),
    ("NVIDIA A100-PCIE-40GB", "8.0"),
    ("NVIDIA A800-SXM4-80GB", "8.0"),
    ("NVIDIA A30", "8.0"),
    ("NVIDIA A10", "8.6"),
    ("NVIDIA A10G", "8.6"),
    ("NVIDIA A40", "8.6"),
    ("NVIDIA RTX A6000", "8.6"),
    ("NVIDIA GeForce RTX 3090", "8.6"),
    ("NVIDIA GeForce RTX 3090 Ti", "8.6"),
    ("NVIDIA L40S", "8.9"),
    ("NVIDIA L40", "8.9"),
    ("NVIDIA L4", "8.9"),
    ("NVIDIA RTX 6000 Ada Generation", "8.9"),
    ("NVIDIA GeForce RTX 4090", "8.9"),
    ("NVIDIA GeForce RTX 4090 D", "8.9"),
    ("NVIDIA B200", "10.0"),
    ("NVIDIA GB200", "10.0"),
    ("NVIDIA B300 SXM6 AC", "10.3"),
    ("NVIDIA GB300", "10.3"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "12.0"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "12.0"),
    ("NVIDIA RTX PRO 5000 Blackwell", "12.0"),
    ("NVIDIA GeForce RTX 5090", "12.0"),
    ("NVIDIA GB10", "12.1"),
    ("Tesla T4", "7.5"),
    ("NVIDIA Whatever Comes Next", "13.0"),
]
SHOW = "show() { check_the_machine; echo; declare -p gpu_names compute_capability driver_cuda has_cuda_gpu; }"
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def preflight(machine: Machine, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.step("check_the_machine", *arguments)


def cuda_library(machine: Machine, *gpus: str) -> None:
    """Let the simulated CUDA library find as many GPUs as nvidia-smi."""
    (machine.home / ".demo").mkdir(exist_ok=True)
    (machine.home / ".demo/gpus.json").write_text(json.dumps({"gpus": gpus}))


def gpus(machine: Machine, *rows: str, cuda: str = "CUDA Version: 13.0", slices: str = "") -> None:
    """Make nvidia-smi print rows of name, driver version, MIG mode, compute capability."""
    (machine.folder / "rows").write_text("".join(f"{row}\n" for row in rows))
    (machine.folder / "slices").write_text(slices)
    cuda_library(machine, *rows)
    machine.install(
        "nvidia-smi",
        f"""
        case "$*" in
          --query-gpu=*) cat "$MACHINE/rows" ;;
          -L) cat "$MACHINE/slices" ;;
          *) echo "| NVIDIA-SMI 580.95.05     Driver Version: 580.95.05     {cuda}     |" ;;
        esac
        """,
    )


@pytest.mark.parametrize(("name", "capability"), GPUS)
def test_every_gpu_is_read(machine: Machine, name: str, capability: str) -> None:
    gpus(machine, f"{name}, 580.95.05, Disabled, {capability}")
    done = machine.step("show", before=SHOW)
    assert f", 1x {name}, " in messages(done, "*")[-1]
    assert f'it | declare -- gpu_names="{name}"\n' in done.stdout
    assert f'it | declare -- compute_capability="{capability}"\n' in done.stdout
    assert 'it | declare -- driver_cuda="13.0"\n' in done.stdout


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
        ("700.1", "", "13.3"),
        ("470.57.02", "", "11.0"),
        ("[N/A]", "", "11.0"),
    ],
)
def test_the_cuda_of_a_driver_is_in_the_banner_or_follows_from_its_branch(
    machine: Machine, driver: str, banner: str, cuda: str
) -> None:
    assert machine.call("cuda_of_the_driver", driver, banner) == f"{cuda}\n"


def test_mixed_gpus_are_counted_with_a_warning_and_the_oldest_one_decides(machine: Machine) -> None:
    gpus(
        machine,
        "NVIDIA A100-SXM4-80GB, 580.95.05, Disabled, 8.0",
        "NVIDIA L4, 580.95.05, Disabled, 8.9",
        "NVIDIA L4, 580.95.05, Disabled, 8.9",
    )
    done = machine.step("show", before=SHOW)
    types = "1x NVIDIA A100-SXM4-80GB, 2x NVIDIA L4"
    warning = f"the GPUs are of different types ({types}): splitting one model over them works poorly"
    assert messages(done, "!") == [warning]
    assert f"(CUDA 13.0), {types}, " in messages(done, "*")[-1]
    assert 'compute_capability="8.0"' in done.stdout


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo 'No devices were found'", "no usable GPU: nvidia-smi lists none"),
        ("echo 'No devices were found'; exit 6", "no usable GPU: nvidia-smi says `No devices were found`"),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "no usable GPU: nvidia-smi says `Failed to initialize NVML: Driver/library version mismatch`",
        ),
        (
            "echo; echo 'NVIDIA-SMI has failed because it could not talk to the driver.' >&2; exit 9",
            "no usable GPU: nvidia-smi says `NVIDIA-SMI has failed because it could not talk to the driver.`",
        ),
    ],
)
def test_without_a_working_gpu_the_machine_is_refused(machine: Machine, answer: str, reason: str) -> None:
    machine.install("nvidia-smi", answer)
    assert refusal(preflight(machine)) == reason


def test_without_a_driver_only_the_cpu_build_can_be_set_up(machine: Machine) -> None:
    machine.remove("nvidia-smi")
    assert refusal(preflight(machine)) == (
        "no NVIDIA driver: nvidia-smi is missing. On a machine without a GPU, use --cpu"
    )
    assert passes(preflight(machine, "--cpu")) == f"Debian 12, {os.uname().machine}, 812 GB free"


def test_slices_of_a_gpu_are_counted(machine: Machine) -> None:
    listed = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-51b0)\n  MIG 3g.40gb     Device  0: (UUID: MIG-1)\n"
    gpus(machine, f"{H100}, 580.95.05, Enabled, 9.0", slices=listed)
    done = preflight(machine)
    passes(done)
    assert messages(done, "*")[0] == "MIG: 1 slices on 1 GPUs"


def test_a_gpu_in_mig_mode_without_slices_is_not_usable(machine: Machine) -> None:
    gpus(machine, f"{H100}, 580.95.05, Enabled, 9.0", slices="GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-51b0)\n")
    assert refusal(preflight(machine)).startswith("no usable GPU: MIG is on, and there are no slices.")
    gpus(machine, f"{H100}, 580.95.05, Enabled, 9.0", f"{H100}, 580.95.05, Disabled, 9.0")
    done = preflight(machine)
    passes(done)
    assert messages(done, "!")[0].startswith("1 GPUs are in MIG mode without slices: nothing can run on them")


@pytest.mark.parametrize(
    ("row", "cuda", "arguments", "reason"),
    [
        (
            "Tesla V100-SXM2-16GB, 570.86.15, [N/A], 7.0",
            "12.8",
            [],
            (
                "Tesla V100-SXM2-16GB has compute capability 7.0, and vLLM needs 7.5; "
                "0.19.1 was the last one built for it: use --vllm 0.19.1"
            ),
        ),
        (
            "NVIDIA GeForce GTX 1080, 570.86.15, [N/A], 6.1",
            "12.8",
            ["--vllm", "0.19.1"],
            "NVIDIA GeForce GTX 1080 has compute capability 6.1, and vLLM needs 7.0; no vLLM was ever built for it",
        ),
        (
            "Tesla T4, 470.57.02, [N/A], 7.5",
            "11.4",
            [],
            (
                "the NVIDIA driver 470.57.02 is too old: it supports CUDA 11.4, and vLLM needs 12.0 (driver 525) or "
                "newer; vLLM 0.10.1.1 was the last built with CUDA 11"
            ),
        ),
    ],
)
def test_hardware_that_vllm_no_longer_supports_is_refused_with_the_last_version_that_did(
    machine: Machine, row: str, cuda: str, arguments: list[str], reason: str
) -> None:
    gpus(machine, row, cuda=f"CUDA Version: {cuda}")
    assert refusal(preflight(machine, *arguments)) == reason


@pytest.mark.parametrize("spec", ["0.19.1", "vllm==0.18.0", "https://example.org/vllm-0.30.0+sm70-cp38-abi3-linux.whl"])
def test_an_old_gpu_may_run_an_old_vllm_or_a_custom_build(machine: Machine, spec: str) -> None:
    gpus(machine, "Tesla V100-SXM2-16GB, 580.95.05, [N/A], 7.0")
    passes(preflight(machine, "--vllm", spec))


def test_a_driver_that_does_not_report_compute_capability_is_too_old(machine: Machine) -> None:
    machine.install(
        "nvidia-smi",
        """
        case "$*" in
          *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
          *query-gpu*) echo "Tesla V100-SXM2-16GB, 450.80.02" ;;
          *) echo "| NVIDIA-SMI 450.80.02    Driver Version: 450.80.02    CUDA Version: 11.0     |" ;;
        esac
        """,
    )
    assert "the NVIDIA driver 450.80.02 is too old: it supports CUDA 11.0" in refusal(preflight(machine))


@pytest.mark.parametrize(
    ("name", "capability", "driver", "cuda", "warned"),
    [
        ("NVIDIA GeForce RTX 5090", "12.0", "570.86.15", "12.8", True),
        ("NVIDIA RTX A6000", "8.6", "550.144.03", "12.4", True),
        (H100, "9.0", "560.35.03", "12.6", True),  # not a branch that cuda-compat is made for
        (H100, "9.0", "570.86.15", "12.8", False),
        ("NVIDIA L40S", "8.9", "535.129.03", "12.2", False),
        ("NVIDIA GeForce RTX 5090", "12.0", "575.57.08", "12.9", False),
        ("NVIDIA GeForce RTX 5090", "12.0", "580.95.05", "13.0", False),
    ],
)
def test_a_driver_older_than_vllms_cuda_gives_a_warning_unless_cuda_compat_helps(
    machine: Machine, name: str, capability: str, driver: str, cuda: str, warned: bool
) -> None:
    gpus(machine, f"{name}, {driver}, Disabled, {capability}", cuda=f"CUDA Version: {cuda}")
    done = preflight(machine)
    passes(done)
    warnings = [text for text in messages(done, "!") if "the provided PTX was compiled with an unsupported" in text]
    assert len(warnings) == warned

"""`remote/setup/gpus.sh` and `accelerators.sh`: what setup finds out about GPUs and drivers, and says without them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pi_cli.demo import gpus as simulated_gpus
from tests import executables
from tests.remote.machine import SCRIPT, Machine
from tests.remote.outcome import messages, passes, refusal
from tests.until import until

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


RESTART = "restart the machine; if that does not help, ask the provider, or choose another machine"
CARD = ("0x10de", "0x030200", "0x2330")


def card(machine: Machine, *cards: tuple[str, str, str]) -> None:
    """Put cards on the PCI bus: vendor, class, device."""
    for number, values in enumerate(cards):
        for name, value in zip(("vendor", "class", "device"), values, strict=True):
            machine.write(f"/sys/bus/pci/devices/0000:{number:02x}:00.0/{name}", f"{value}\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo 'No devices were found'", f"nvidia-smi lists none: {RESTART}"),
        ("echo 'No devices were found'; exit 6", f"nvidia-smi says `No devices were found`: {RESTART}"),
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            (
                "nvidia-smi says `Failed to initialize NVML: Driver/library version mismatch`: "
                "the driver was updated while it was loaded: restart the machine"
            ),
        ),
        (
            "echo; echo 'NVIDIA-SMI has failed because it could not talk to the driver.' >&2; exit 9",
            f"nvidia-smi says `NVIDIA-SMI has failed because it could not talk to the driver.`: {RESTART}",
        ),
        (
            "echo '[GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]'; exit 15",
            f"nvidia-smi says `GPU 0 ([GPU is lost]): [GPU is lost]`: {RESTART}",
        ),
    ],
)
def test_without_a_working_gpu_the_machine_is_refused(machine: Machine, answer: str, reason: str) -> None:
    card(machine, CARD)
    machine.write("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\n")
    machine.install("nvidia-smi", answer)
    assert refusal(preflight(machine)) == f"no usable GPU: {reason}"


LOST = "Unable to determine the device handle for GPU0000:41:00.0: GPU is lost.  Reboot the system to recover this GPU"


@pytest.mark.parametrize(
    ("lines", "status", "usable", "warning"),
    [
        ([f"{H100}, 580.95.05, Disabled, 9.0"] * 2 + [LOST], 15, 2, LOST),
        ([f"{H100}, 580.95.05, Disabled, 9.0", LOST], 0, 1, LOST),
        (["Unknown Error: GPU1", f"{H100}, 580.95.05, Disabled, 9.0"], 255, 1, "Unknown Error: GPU1"),
        (
            [f"{H100}, 580.95.05, Disabled, 9.0", f"{H100}, 580.95.05, [Unknown Error], 9.0"],
            0,
            1,
            f"GPU 1 ({H100}): [Unknown Error]",
        ),
        (
            [
                f"{H100}, ERR!, ERR!, ERR!",
                f"{H100}, 580.95.05, [GPU requires reset], 9.0",
                f"{H100}, 580.95.05, [N/A], 9.0",
            ],
            14,
            1,
            f"GPU 1 ({H100}): [GPU requires reset]",
        ),
    ],
)
def test_usable_gpus_count_whatever_else_nvidia_smi_says(
    machine: Machine, lines: list[str], status: int, usable: int, warning: str
) -> None:
    simulated_gpus.install(machine.home, simulated_gpus.parse(f"{usable}x H100 80GB"))
    text = "".join(f"{line}\n" for line in lines)
    (machine.folder / "rows").write_text(text)
    machine.install("nvidia-smi", f'case "$*" in *query*) cat "$MACHINE/rows"; exit {status} ;; esac')
    done = preflight(machine)
    assert f", driver 580.95.05 (CUDA 13.0), {usable}x {H100}, " in passes(done)
    warnings = messages(done, "!")
    assert [text for text in warnings if f"nvidia-smi says `{warning}`: restart the machine" in text]
    assert not [text for text in warnings if "did not end" in text]


def test_nvidia_smi_is_also_found_where_wsl_and_gke_have_it(machine: Machine) -> None:
    sys.path.append(str(SCRIPT.parent))
    from agent import gpus as of_the_agent

    assert machine.call("eval", 'echo "$nvidia_folders"').strip().split(":") == of_the_agent.NVIDIA_FOLDERS
    machine.remove("nvidia-smi")
    for folder in of_the_agent.NVIDIA_FOLDERS:
        path = machine.root / folder.lstrip("/") / "nvidia-smi"
        executables.put(path, f'#!/bin/sh\ncase "$*" in *query*) echo "{H100}, 580.95.05, Disabled, 9.0" ;; esac\n')
        assert f"1x {H100}" in passes(preflight(machine))
        path.unlink()


def test_the_driver_of_a_container_is_found_without_the_containers_variables(machine: Machine) -> None:
    machine.write("/usr/local/nvidia/lib64/libcuda.so.1", "")
    assert machine.call("eval", 'echo "${LD_LIBRARY_PATH:-}"') == f"{machine.root}/usr/local/nvidia/lib64\n"


# A machine without nvidia-smi


def test_without_a_driver_only_the_cpu_build_can_be_set_up(machine: Machine) -> None:
    machine.remove("nvidia-smi")
    assert refusal(preflight(machine)) == (
        "no NVIDIA GPU and no driver: choose a machine that has them. On a machine without a GPU, use --cpu"
    )
    assert passes(preflight(machine, "--cpu")) == f"Debian 12, {os.uname().machine}, 872 GB free"


CONTAINER = {"/.dockerenv": ""}
MODULE = {
    "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\n"
}
DISPLAY = ("0x1a03", "0x030000", "0x2000")  # of the board's own management controller


@pytest.mark.parametrize(
    ("cards", "files", "words"),
    [
        (
            [("0x1002", "0x120000", "0x74a1")] * 8 + [DISPLAY],
            {},
            "AMD GPUs (8x 1002:74a1); pi installs vLLM's builds for",
        ),
        ([], {"/dev/kfd": ""}, "AMD GPUs (/dev/kfd)"),
        ([("0x8086", "0x038000", "0x0bd5")], {}, "an Intel GPU (1x 8086:0bd5)"),
        ([("0x1da3", "0x120000", "0x1060")] * 8, {}, "Intel Gaudi accelerators (8x 1da3:1060)"),
        ([("0x1ae0", "0xff0000", "0x0063")] * 4, {}, "Google TPUs (4x 1ae0:0063)"),
        ([], {"/dev/neuron0": ""}, "AWS Neuron accelerators"),
        ([], {"/dev/accel/accel0": ""}, "an accelerator (/dev/accel)"),
        ([], {"/proc/device-tree/compatible": "apple,j314s\0apple,t6000\0"}, "an Apple GPU"),
        ([DISPLAY, ("0x8086", "0x060400", "0x1234")], {}, "no NVIDIA GPU and no driver"),
        ([CARD] * 8, {}, "has an NVIDIA GPU (8x 10de:2330) and no driver: install NVIDIA's driver"),
        (
            [CARD],
            {"/sys/module/nouveau/refcnt": "0"},
            "(1x 10de:2330) with the driver nouveau, which has no CUDA: install",
        ),
        ([CARD], MODULE, "NVIDIA's driver 580.95.05 is loaded, but nvidia-smi is missing: install"),
        ([CARD], CONTAINER, "but this container was started without it: create it with GPUs (`docker run --gpus all`)"),
        ([], CONTAINER | MODULE, "the machine has an NVIDIA GPU, but this container was started without it"),
        ([CARD], CONTAINER | {"/dev/nvidiactl": ""}, "create it with NVIDIA_DRIVER_CAPABILITIES=compute,utility"),
        ([], {"/dev/dxg": ""}, "nvidia-smi is missing in this WSL. Install NVIDIA's driver in Windows"),
    ],
)
def test_without_nvidia_smi_setup_says_what_the_machine_has_and_lacks(
    machine: Machine, cards: list[tuple[str, str, str]], files: dict[str, str], words: str
) -> None:
    machine.remove("nvidia-smi")
    card(machine, *cards)
    for path, text in files.items():
        machine.write(path, text)
    assert words in refusal(preflight(machine))


@pytest.mark.parametrize(
    ("cards", "files", "advice"),
    [
        ([CARD], {}, "the module of the driver is not loaded for the GPU (1x 10de:2330): restart the machine"),
        ([CARD], {"/sys/module/nouveau/refcnt": "0"}, "the driver of the GPU (1x 10de:2330) is nouveau"),
        ([("0x1002", "0x120000", "0x74a1")], {}, "this machine has AMD GPUs (1x 1002:74a1)"),
        ([DISPLAY], {}, "no NVIDIA GPU and no driver: choose a machine that has them"),
        ([CARD], CONTAINER, "restart the container"),
    ],
)
def test_the_cause_of_a_driver_that_fails_is_named_as_far_as_the_machine_shows_it(
    machine: Machine, cards: list[tuple[str, str, str]], files: dict[str, str], advice: str
) -> None:
    card(machine, *cards)
    for path, text in files.items():
        machine.write(path, text)
    failed = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    machine.install("nvidia-smi", f'echo "{failed}"; exit 9')
    assert f"no usable GPU: nvidia-smi says `{failed}`: {advice}" in refusal(preflight(machine))


# A driver that takes long

QUICK = "driver_patience=3 driver_note_after=1"
NOTE = "nvidia-smi has not answered for 1 s; waiting up to 3 s"
BANNER = "| 0  NVIDIA H100 80GB HBM3   {} | 00000000:01:00.0 Off |"


@pytest.mark.parametrize(
    ("persistence", "files", "words"),
    [
        ("Off", {}, "turn it on with `nvidia-smi -pm 1` as root"),
        ("Off", CONTAINER, "the provider can turn it on, on the host of this container"),
        ("On ", {}, None),
    ],
)
def test_a_slow_driver_is_waited_for_and_persistence_mode_proposed(
    machine: Machine, persistence: str, files: dict[str, str], words: str | None
) -> None:
    for path, text in files.items():
        machine.write(path, text)
    machine.install(
        "nvidia-smi",
        f"""
        case "$*" in
          *query*) sleep 1.2; echo "{H100}, 580.95.05, Disabled, 9.0" ;;
          "") echo "{BANNER.format(persistence)}" ;;
        esac
        """,
    )
    done = machine.step("check_the_machine", before=QUICK)
    assert f"1x {H100}" in passes(done)
    assert NOTE in messages(done, "*")
    warnings = [text for text in messages(done, "!") if "persistence mode" in text]
    assert [words in text for text in warnings] == [True] if words else warnings == []


@pytest.mark.parametrize("code", ["exec sleep 3600", "trap '' TERM; sleep 3600 & wait"])
def test_a_driver_that_hangs_does_not_answer(machine: Machine, code: str) -> None:
    machine.install("nvidia-smi", f'echo $$ >> "$MACHINE/asked"; {code}')
    done = machine.step("check_the_machine", before=QUICK)
    assert messages(done, "*") == [NOTE]
    assert refusal(done) == (
        "the driver does not answer: nvidia-smi gave no answer within 3 s. "
        "Restart the machine; if the driver still hangs, ask the provider, or choose another machine"
    )
    left = [Path("/proc", pid) for pid in (machine.folder / "asked").read_text().split()]
    until(lambda: not any(process.exists() for process in left))


def test_a_banner_that_hangs_is_not_needed(machine: Machine) -> None:
    """The version of the driver says enough, and of the GPUs that were listed none is lost."""
    machine.install(
        "nvidia-smi", f'case "$*" in *query*) echo "{H100}, 570.86.15, Disabled, 9.0" ;; *) exec sleep 3600 ;; esac'
    )
    done = machine.step("check_the_machine", before=QUICK)
    assert f", driver 570.86.15 (CUDA 12.8), 1x {H100}, " in passes(done)


def test_gpus_that_were_listed_before_nvidia_smi_hung_are_used(machine: Machine) -> None:
    machine.install(
        "nvidia-smi", f'case "$*" in *query*) echo "{H100}, 580.95.05, Disabled, 9.0"; exec sleep 3600 ;; esac'
    )
    done = machine.step("check_the_machine", before=QUICK)
    assert f"1x {H100}" in passes(done)
    assert "nvidia-smi did not finish within 3 s: a GPU may be missing here" in messages(done, "!")[-1]


@pytest.mark.parametrize(
    ("row", "banner", "warned"),
    [
        ("NVIDIA GeForce RTX 4090, 550.54.15, [N/A], 8.9", "13.0", True),
        (f"{H100}, 570.86.15, Disabled, 9.0", "13.0", True),
        (f"{H100}, 580.95.05, Disabled, 9.0", "13.0", False),
        (f"{H100}, 580.95.05, Disabled, 9.0", "12.8", False),
    ],
)
def test_a_banner_that_shows_more_than_the_driver_supports_is_not_believed(
    machine: Machine, row: str, banner: str, warned: bool
) -> None:
    gpus(machine, row, cuda=f"CUDA Version: {banner}")
    done = machine.step("show", before="show() { check_the_machine; echo; pair; }")
    assert [f"nvidia-smi shows CUDA {banner}, but driver" in text for text in messages(done, "!")].count(True) == warned
    wheel = "cu129 cu129" if warned or banner == "12.8" else "default cu130"
    assert f"it | {wheel}\n" in done.stdout


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

"""The output of nvidia-smi."""

import pytest

from pi_cli.pods.nvidia import GpuReading, read
from pi_cli.store.records import Gpu

TWO_WITH_SLICES = """\
0, NVIDIA A100-SXM4-40GB, 40960, 45, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, Enabled, 535.183.06
1, NVIDIA A100-SXM4-40GB, 40960, 4, GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5, Disabled, 535.183.06
"""
THEIR_SLICES = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1c.3g.20gb  Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5)
"""


def row(name: str, total: str, *, id: int = 0, used: str = "1") -> str:
    return f"{id}, {name}, {total}, {used}, GPU-51b0a7ed, [N/A], 580.95.05\n"


@pytest.mark.parametrize(
    ("name", "mebibytes", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "80GB"),
        ("NVIDIA H100 PCIe", 81559, "80GB"),
        ("NVIDIA H100 NVL", 95830, "94GB"),
        ("NVIDIA H200", 143771, "141GB"),
        ("NVIDIA H200 NVL", 143771, "141GB"),
        ("NVIDIA H20", 97871, "96GB"),
        ("NVIDIA H20-3e", 143771, "141GB"),
        ("NVIDIA H800", 81559, "80GB"),
        ("NVIDIA GH200 480GB", 97871, "96GB"),
        ("NVIDIA GH200 144G HBM3e", 147000, "144GB"),
        ("NVIDIA A100-SXM4-80GB", 81920, "80GB"),
        ("NVIDIA A100 80GB PCIe", 81920, "80GB"),
        ("NVIDIA A100-SXM4-40GB", 40960, "40GB"),
        ("NVIDIA A100-PCIE-40GB", 40960, "40GB"),
        ("NVIDIA A800-SXM4-80GB", 81920, "80GB"),
        ("NVIDIA A30", 24576, "24GB"),
        ("NVIDIA A10", 23028, "24GB"),
        ("NVIDIA A10G", 23028, "24GB"),
        ("NVIDIA A40", 46068, "48GB"),
        ("NVIDIA A40", 49140, "48GB"),
        ("NVIDIA RTX A6000", 49140, "48GB"),
        ("NVIDIA GeForce RTX 3090", 24576, "24GB"),
        ("NVIDIA GeForce RTX 3090 Ti", 24564, "24GB"),
        ("NVIDIA L40S", 46068, "48GB"),
        ("NVIDIA L40", 46068, "48GB"),
        ("NVIDIA L4", 23034, "24GB"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "48GB"),
        ("NVIDIA GeForce RTX 4090", 24564, "24GB"),
        ("NVIDIA GeForce RTX 4090 D", 24564, "24GB"),
        ("NVIDIA B200", 183359, "180GB"),
        ("NVIDIA GB200", 189471, "192GB"),
        ("NVIDIA B300 SXM6 AC", 275040, "288GB"),
        ("NVIDIA GB300", 284208, "288GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "96GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "96GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, "96GB"),
        ("NVIDIA RTX PRO 5000 Blackwell", 48935, "48GB"),
        ("NVIDIA GeForce RTX 5090", 32607, "32GB"),
        ("Tesla T4", 15360, "16GB"),
        ("NVIDIA Something Of 2031, Special Edition", 524288, "512GB"),
    ],
)
def test_memory_is_counted_as_vendors_do(name: str, mebibytes: int, memory: str) -> None:
    reading = read(row(name, str(mebibytes), id=3))
    assert reading.gpus == [Gpu(3, name, memory)]
    assert reading.used == {3: (1, mebibytes)}


@pytest.mark.parametrize("value", ["[N/A]", "[Not Supported]", "N/A", "[Insufficient Permissions]"])
def test_a_gpu_whose_memory_is_not_reported_has_unknown_memory(value: str) -> None:
    """Fault 81: GB10 and Thor share the memory of their processors."""
    reading = read(row("NVIDIA GB10", value, used=value))
    assert reading == GpuReading([Gpu(0, "NVIDIA GB10", "unknown")], driver="580.95.05")


def test_mixed_types_keep_the_numbers_of_nvidia_smi() -> None:
    reading = read(row("NVIDIA H100 80GB HBM3", "81559", used="70000") + row("NVIDIA L4", "23034", id=2))
    assert [(gpu.id, gpu.name, gpu.extra) for gpu in reading.gpus] == [
        (0, "NVIDIA H100 80GB HBM3", {}),
        (2, "NVIDIA L4", {}),
    ]
    assert reading.used == {0: (70000, 81559), 2: (1, 23034)}


def test_every_slice_is_a_gpu_and_with_slices_every_gpu_has_a_uuid() -> None:
    """Fault 81."""
    reading = read(TWO_WITH_SLICES, THEIR_SLICES)
    assert reading.gpus == [
        Gpu(0, "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "20GB", {"uuid": "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"}),
        Gpu(1, "NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb", "20GB", {"uuid": "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"}),
        Gpu(2, "NVIDIA A100-SXM4-40GB", "40GB", {"uuid": "GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5"}),
    ]
    assert [gpu.is_slice for gpu in reading.gpus] == [True, True, False]
    assert reading.used == {2: (4, 40960)}


def test_slices_are_found_in_the_format_of_older_drivers_and_with_extra_engines() -> None:
    listed = """\
GPU 0: NVIDIA A100-PCIE-40GB (UUID: GPU-63feeb45)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-63feeb45/7/0)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-0b)
"""
    reading = read("0, NVIDIA A100-PCIE-40GB, 40960, 45, GPU-63feeb45, Enabled, 450.80.02\n", listed)
    assert [(gpu.memory, gpu.extra["uuid"]) for gpu in reading.gpus] == [
        ("5GB", "MIG-GPU-63feeb45/7/0"),
        ("10GB", "MIG-0b"),
    ]


def test_a_gpu_in_mig_mode_without_slices_does_not_count() -> None:
    reading = read(TWO_WITH_SLICES, "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d)\nGPU 1: NVIDIA A100 (UUID: GPU-b8)\n")
    assert [gpu.extra for gpu in reading.gpus] == [{"uuid": "GPU-b8ea3855-276c-c9cb-b366-c6fa655957c5"}]


@pytest.mark.parametrize("value", ["ERR!", "[Unknown Error]", "[GPU is lost]", "[GPU requires reset]"])
def test_a_broken_gpu_does_not_count_and_is_reported(value: str) -> None:
    reading = read(row("NVIDIA L4", "23034") + row("NVIDIA L4", value, id=1))
    assert [gpu.id for gpu in reading.gpus] == [0]
    assert reading.broken == [f"GPU 1: {value}"]


def test_a_gpu_that_fell_off_the_bus_is_reported() -> None:
    line = "Unable to determine the device handle for GPU0000:41:00.0: Unknown Error"
    assert read(row("NVIDIA L4", "23034") + line + "\n").broken == [line]


@pytest.mark.parametrize(
    "output",
    [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure it is installed.\n",
        "Welcome to your pod!\n\n",
        'Field "mig.mode.current" is not a valid field to query.\n',
    ],
)
def test_output_without_a_table_has_no_gpus(output: str) -> None:
    """Fault 81."""
    assert read(output).gpus == []

"""What nvidia-smi prints."""

import pytest

from pi_cli.pods.nvidia import parse_gpus
from pi_cli.store.records import Gpu


@pytest.mark.parametrize(
    ("name", "mebibytes", "memory"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, "80GB"),
        ("NVIDIA H100 NVL", 95830, "94GB"),
        ("NVIDIA H200", 143771, "141GB"),
        ("NVIDIA A100-SXM4-40GB", 40960, "40GB"),
        ("NVIDIA GeForce RTX 4090", 24564, "24GB"),
        ("NVIDIA L40S", 46068, "48GB"),
        ("NVIDIA L4", 23034, "24GB"),
        ("Tesla T4", 15360, "16GB"),
        ("NVIDIA B200", 183359, "180GB"),
    ],
)
def test_memory_is_counted_as_vendors_do(name: str, mebibytes: int, memory: str) -> None:
    assert parse_gpus(f"3, {name}, {mebibytes}\n") == [Gpu(3, name, memory)]


def test_unified_memory_is_unknown_and_noise_is_no_gpu() -> None:
    told = "Welcome to your pod!\n0, NVIDIA GB10, [N/A]\n\n"
    assert parse_gpus(told) == [Gpu(0, "NVIDIA GB10", "unknown")]
    assert parse_gpus("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") == []

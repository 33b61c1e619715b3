"""How GPUs are recognised by name."""

import pytest

from pi_cli.errors import BadUsage
from pi_cli.planning import gpu_types
from pi_cli.pods import nvidia
from pi_cli.store.records import Gpu
from tests.every import every


def seen(name: str, mebibytes: int | None) -> Gpu:
    """Return a GPU as pi reads it from nvidia-smi, which shows unified memory as `[N/A]`."""
    memory = "[N/A]" if mebibytes is None else mebibytes
    [gpu] = nvidia.read(f"0, {name}, {memory}, 1, GPU-5d, [N/A], 580.95.05\n").gpus
    return gpu


# nvidia-smi's name of a GPU, the MiB that it shows (None: not seen yet), our name, its compute capability.
KNOWN = [
    ("NVIDIA H100 80GB HBM3", 81559, "H100", (9, 0)),
    ("NVIDIA H100 PCIe", 81559, "H100 PCIe", (9, 0)),
    ("NVIDIA H100 NVL", 95830, "H100 NVL", (9, 0)),
    ("NVIDIA H200", 143771, "H200", (9, 0)),
    ("NVIDIA H200 NVL", None, "H200 NVL", (9, 0)),
    ("NVIDIA H20", 97871, "H20", (9, 0)),
    ("NVIDIA H20-3e", None, "H20-3e", (9, 0)),
    ("NVIDIA H800", 81559, "H800", (9, 0)),
    ("NVIDIA GH200 480GB", 97871, "GH200", (9, 0)),
    ("NVIDIA GH200 144G HBM3e", None, "GH200-144G", (9, 0)),
    ("NVIDIA A100-SXM4-80GB", 81920, "A100", (8, 0)),
    ("NVIDIA A100 80GB PCIe", 81920, "A100 PCIe", (8, 0)),
    ("NVIDIA A100-SXM4-40GB", 40960, "A100-40G", (8, 0)),
    ("NVIDIA A100-PCIE-40GB", 40960, "A100-40G PCIe", (8, 0)),
    ("NVIDIA A800-SXM4-80GB", 81920, "A800", (8, 0)),
    ("NVIDIA A30", 24576, "A30", (8, 0)),
    ("NVIDIA A10", 23028, "A10", (8, 6)),
    ("NVIDIA A10G", 23028, "A10G", (8, 6)),
    ("NVIDIA A40", 46068, "A40", (8, 6)),
    ("NVIDIA RTX A6000", 49140, "A6000", (8, 6)),
    ("NVIDIA GeForce RTX 3090", 24576, "RTX 3090", (8, 6)),
    ("NVIDIA GeForce RTX 3090 Ti", 24564, "RTX 3090 Ti", (8, 6)),
    ("NVIDIA L40S", 46068, "L40S", (8, 9)),
    ("NVIDIA L40", 46068, "L40", (8, 9)),
    ("NVIDIA L4", 23034, "L4", (8, 9)),
    ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX 6000 Ada", (8, 9)),
    ("NVIDIA GeForce RTX 4090", 24564, "RTX 4090", (8, 9)),
    ("NVIDIA GeForce RTX 4090 D", 24564, "RTX 4090 D", (8, 9)),
    ("NVIDIA B200", 183359, "B200", (10, 0)),
    ("NVIDIA GB200", 189471, "GB200", (10, 0)),
    ("NVIDIA B300 SXM6 AC", 275040, "B300", (10, 3)),
    ("NVIDIA GB300", 284208, "GB300", (10, 3)),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, "RTX PRO 6000", (12, 0)),
    ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887, "RTX PRO 6000", (12, 0)),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 97887, "RTX PRO 6000", (12, 0)),
    ("NVIDIA RTX PRO 5000 Blackwell", None, "RTX PRO 5000", (12, 0)),
    ("NVIDIA RTX PRO 5000 72GB Blackwell", None, "RTX PRO 5000-72G", (12, 0)),
    ("NVIDIA GeForce RTX 5090", 32607, "RTX 5090", (12, 0)),
    ("NVIDIA GB10", None, "DGX Spark", (12, 1)),
    ("Tesla T4", 15360, "T4", (7, 5)),
]


@every(KNOWN)
def test_a_gpu_is_recognised_by_its_name_in_nvidia_smi(
    name: str, mebibytes: int | None, ours: str, capability: tuple[int, int]
) -> None:
    kind = gpu_types.recognise(seen(name, mebibytes))
    assert kind is not None
    assert (kind.name, kind.capability) == (ours, capability)
    assert mebibytes in (None, kind.memory_mib)


@every(gpu_types.TABLE)
def test_every_type_in_the_table_has_the_size_that_vendors_name(
    kind: gpu_types.GpuType, names: tuple[str, ...]
) -> None:
    assert seen(names[0], kind.memory_mib).memory == f"{kind.size}GB" or kind.is_unified
    assert gpu_types.named(kind.name) == kind


@pytest.mark.parametrize(
    ("gpu", "ours"),
    [
        (Gpu(0, "H100", "80GB"), "H100"),
        (Gpu(0, "A100", "40GB"), "A100-40G"),
        (Gpu(0, "A100", "unknown"), "A100"),
        (Gpu(0, "NVIDIA B200", "192GB"), "B200"),
        (Gpu(0, "A100-SXM4-80GB", "80GB"), "A100"),  # the name in old drivers
    ],
)
def test_a_gpu_that_was_recorded_by_hand_is_recognised(gpu: Gpu, ours: str) -> None:
    kind = gpu_types.recognise(gpu)
    assert kind is not None
    assert kind.name == ours


@pytest.mark.parametrize(
    "gpu",
    [
        Gpu(0, "NVIDIA X999", "96GB"),
        Gpu(0, "NVIDIA H100 80GB HBM3", "40GB"),
        Gpu(0, "NVIDIA X999 MIG 1g.12gb", "12GB"),
        Gpu(0, "NVIDIA H100 80GB HBM3 MIG 1g", "unknown"),
        Gpu(0, "", ""),
    ],
)
def test_an_unknown_gpu_has_no_type(gpu: Gpu) -> None:
    assert gpu_types.recognise(gpu) is None


def test_a_slice_has_the_capability_of_its_card_and_its_own_memory() -> None:
    kind = gpu_types.recognise(Gpu(0, "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "20GB"))
    assert kind is not None
    assert (kind.name, kind.capability, kind.size) == ("A100-40G MIG 3g.20gb", (8, 0), 20)
    assert kind.memory_mib == pytest.approx(19968, rel=0.001)
    assert not kind.is_a("A100-40G")


@pytest.mark.parametrize(
    ("name", "listed", "can_replace"),
    [
        ("H100 NVL", "H100", True),
        ("H100 PCIe", "h100", True),
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("H100", "H100 NVL", False),
        ("GB200", "B200", True),
        ("A100-40G", "A100", False),
        ("A100", "A100-40G", False),
        ("H20", "H200", False),
        ("L4", "L40S", False),
        ("RTX 4090", "X999", False),
    ],
)
def test_a_type_can_replace_the_same_chip_with_at_most_as_much_memory(
    name: str, listed: str, *, can_replace: bool
) -> None:
    kind = gpu_types.named(name)
    assert kind is not None
    assert kind.is_a(listed) == can_replace


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A100", ["A100"]),
        ("2x H100", ["H100"] * 2),
        ("8x H200", ["H200"] * 8),
        ("4xL4", ["L4"] * 4),
        ("1x RTX 4090", ["RTX 4090"]),
        ("2x A100 40GB", ["A100-40G"] * 2),
        ("2x a100-40g", ["A100-40G"] * 2),
        ("h100 94gb", ["H100 NVL"]),
        ("H20 141GB", ["H20-3e"]),
        ("1x H100, 2x L4", ["H100", "L4", "L4"]),
        ("1x NVIDIA RTX PRO 6000 Blackwell Server Edition", ["RTX PRO 6000"]),
    ],
)
def test_gpus_are_parsed_as_people_write_them(text: str, names: list[str]) -> None:
    gpus = gpu_types.parse(text)
    assert [gpu.id for gpu in gpus] == list(range(len(names)))
    kinds = [gpu_types.recognise(gpu) for gpu in gpus]
    assert [kind.name for kind in kinds if kind] == names


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("2x H10", "pi does not know the GPU `H10`", "did you mean `H100`?"),
        ("RTX 4080", "pi does not know the GPU `RTX 4080`", "did you mean `RTX 4090`?"),
        ("A100 60GB", "pi does not know the GPU `A100 60GB`", "did you mean `A100` or `A100-40G`?"),
        ("0x H100", "`0x H100` does not name GPUs", 'write them like "2x H100" or "1x H100, 2x L4"'),
        ("1x H100,", "`1x H100,` does not name GPUs", 'write them like "2x H100" or "1x H100, 2x L4"'),
        ("", "`` does not name GPUs", 'write them like "2x H100" or "1x H100, 2x L4"'),
    ],
)
def test_unknown_gpus_are_refused_with_similar_ones(text: str, message: str, hint: str) -> None:
    with pytest.raises(BadUsage) as caught:
        gpu_types.parse(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_without_a_similar_type_all_known_types_are_named() -> None:
    with pytest.raises(BadUsage) as caught:
        gpu_types.parse("Voodoo 2")
    assert str(caught.value.hint).startswith("pi knows H100, H100 PCIe, ")

"""The GPU types that pi knows: names, memory, compute capability. To add one, add a line to `TABLE`."""

import difflib
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pi_cli.errors import BadUsage
from pi_cli.store.records import Gpu


@dataclass(frozen=True, slots=True)
class GpuType:
    """A type of GPU, under its name in the catalogue.

    `memory_mib` is the total that nvidia-smi shows, `size` the same in GB as vendors count. `capability` is CUDA's
    compute capability. `like` names the type that this one can replace: the same chip with at most as much memory.
    `is_unified`: the memory is that of the whole machine, whose own programs need a part of it.
    """

    name: str
    memory_mib: int
    capability: tuple[int, int]
    size: int
    like: str = ""
    is_unified: bool = False

    def is_a(self, name: str) -> bool:
        """Return whether a configuration for a type, by our name or nvidia-smi's, runs on this one too."""
        type = named(name)
        return name == self.name or (type is not None and type.name in (self.name, self.like))


# Our name, MiB, compute capability, GB, the type that it can replace; then the names that nvidia-smi uses, and the name
# to which people add the size (`A100 40GB`).
#
# MiB: seen in nvidia-smi's output in public issues and logs, except where a comment says otherwise. Names: the list of
# chips in NVIDIA's driver README. Capabilities: NVIDIA's list of CUDA GPUs.
TABLE: tuple[tuple[GpuType, tuple[str, ...]], ...] = (
    (GpuType("H100", 81559, (9, 0), 80), ("NVIDIA H100 80GB HBM3",)),
    (GpuType("H100 PCIe", 81559, (9, 0), 80, "H100"), ("NVIDIA H100 PCIe",)),
    (GpuType("H100 NVL", 95830, (9, 0), 94, "H100"), ("NVIDIA H100 NVL", "H100")),
    (GpuType("H800", 81559, (9, 0), 80, "H100"), ("NVIDIA H800",)),  # not seen: like the H100 of the same size
    (GpuType("H200", 143771, (9, 0), 141), ("NVIDIA H200",)),
    (GpuType("H200 NVL", 143771, (9, 0), 141, "H200"), ("NVIDIA H200 NVL",)),  # not seen: like H200
    (GpuType("H20", 97871, (9, 0), 96), ("NVIDIA H20",)),
    (GpuType("H20-3e", 143771, (9, 0), 141), ("NVIDIA H20-3e", "H20")),  # not seen: like the H200 of the same size
    (GpuType("GH200", 97871, (9, 0), 96), ("NVIDIA GH200 480GB",)),  # 480 GB is the processor's memory
    # Not seen: as many MiB per GB as H200.
    (GpuType("GH200-144G", 146830, (9, 0), 144), ("NVIDIA GH200 144G HBM3e", "GH200")),
    (GpuType("A100", 81920, (8, 0), 80), ("NVIDIA A100-SXM4-80GB",)),
    (GpuType("A100 PCIe", 81920, (8, 0), 80, "A100"), ("NVIDIA A100 80GB PCIe",)),
    (GpuType("A100-40G", 40960, (8, 0), 40), ("NVIDIA A100-SXM4-40GB", "A100")),
    (GpuType("A100-40G PCIe", 40960, (8, 0), 40, "A100-40G"), ("NVIDIA A100-PCIE-40GB", "A100 PCIe")),
    (GpuType("A800", 81920, (8, 0), 80, "A100"), ("NVIDIA A800-SXM4-80GB",)),  # not seen: like A100
    (GpuType("A30", 24576, (8, 0), 24), ("NVIDIA A30",)),  # not seen: 24 GiB, of which the driver may reserve some
    (GpuType("A10", 23028, (8, 6), 24, "A10G"), ("NVIDIA A10",)),
    (GpuType("A10G", 23028, (8, 6), 24), ("NVIDIA A10G",)),
    (GpuType("A40", 46068, (8, 6), 48), ("NVIDIA A40",)),  # not seen: like L40S, with ECC; 49140 without
    (GpuType("A6000", 49140, (8, 6), 48), ("NVIDIA RTX A6000",)),
    (GpuType("RTX 3090", 24576, (8, 6), 24), ("NVIDIA GeForce RTX 3090",)),
    (GpuType("RTX 3090 Ti", 24564, (8, 6), 24), ("NVIDIA GeForce RTX 3090 Ti",)),  # not seen: like RTX 4090
    (GpuType("L40S", 46068, (8, 9), 48), ("NVIDIA L40S",)),
    (GpuType("L40", 46068, (8, 9), 48, "L40S"), ("NVIDIA L40",)),
    (GpuType("L4", 23034, (8, 9), 24), ("NVIDIA L4",)),
    (GpuType("RTX 6000 Ada", 49140, (8, 9), 48), ("NVIDIA RTX 6000 Ada Generation",)),
    (GpuType("RTX 4090", 24564, (8, 9), 24), ("NVIDIA GeForce RTX 4090",)),
    (GpuType("RTX 4090 D", 24564, (8, 9), 24, "RTX 4090"), ("NVIDIA GeForce RTX 4090 D",)),  # not seen: like RTX 4090
    (GpuType("B200", 183359, (10, 0), 180), ("NVIDIA B200",)),
    (GpuType("GB200", 189471, (10, 0), 192, "B200"), ("NVIDIA GB200",)),
    (GpuType("B300", 275040, (10, 3), 288), ("NVIDIA B300 SXM6 AC",)),
    (GpuType("GB300", 284208, (10, 3), 288, "B300"), ("NVIDIA GB300",)),
    (
        GpuType("RTX PRO 6000", 97887, (12, 0), 96),
        (
            "NVIDIA RTX PRO 6000 Blackwell Server Edition",
            "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
            "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        ),
    ),
    # Neither was seen: as many MiB per GB as RTX PRO 6000.
    (GpuType("RTX PRO 5000", 48940, (12, 0), 48), ("NVIDIA RTX PRO 5000 Blackwell",)),
    (GpuType("RTX PRO 5000-72G", 73410, (12, 0), 72), ("NVIDIA RTX PRO 5000 72GB Blackwell", "RTX PRO 5000")),
    (GpuType("RTX 5090", 32607, (12, 0), 32), ("NVIDIA GeForce RTX 5090",)),
    # The memory is the machine's, and nvidia-smi shows `[N/A]`: 128 GB minus what the firmware reserves.
    (GpuType("DGX Spark", 121856, (12, 1), 128, is_unified=True), ("NVIDIA GB10",)),
    # Not seen: 122.8 GiB, from which the KV cache in a public log of vLLM follows.
    (GpuType("Jetson Thor", 125747, (11, 0), 128, is_unified=True), ("NVIDIA Thor",)),
    (GpuType("T4", 15360, (7, 5), 16), ("Tesla T4",)),
)

BRANDS = re.compile(r"nvidia|tesla|geforce|rtx|[^a-z0-9]")
NAME_WITH_SIZE = re.compile(r"(.+?)[\s-]*\b(\d+)\s*GB?", re.IGNORECASE)
SLICE_NAME = re.compile(r"(.+) MIG (\S+)")
COUNTED_NAME = re.compile(r"(?:(\d{1,2})\s*x\s*)?([A-Za-z0-9].*[A-Za-z0-9])", re.IGNORECASE)

SIMILARITY_CUTOFF = 0.7
SIZE_TOLERANCE = 0.08  # of the memory: a size written by hand may differ by this much (`B200` with 192GB)
SLICE_MIB_PER_GB = 998  # 19968 MiB seen in an A100's `3g.20gb`, about 69.8 GiB in an H200's `3g.71gb`


def recognise(gpu: Gpu) -> GpuType | None:
    """Return the type of a GPU by nvidia-smi's name or by ours; None if it is not known.

    A MIG slice has a type of its own, with the compute capability of its card.

    >>> recognise(Gpu(0, "NVIDIA A100-SXM4-80GB", "80GB"))
    GpuType(name='A100', memory_mib=81920, capability=(8, 0), size=80, like='', is_unified=False)
    >>> recognise(Gpu(0, "NVIDIA H200 MIG 3g.71gb", "71GB"))
    GpuType(name='H200 MIG 3g.71gb', memory_mib=70858, capability=(9, 0), size=71, like='', is_unified=False)
    """
    size = _gigabytes(gpu.memory)
    if slice := SLICE_NAME.fullmatch(gpu.name):
        card = named(slice[1])
        if card is None or size is None:
            return None
        return GpuType(f"{card.name} MIG {slice[2]}", size * SLICE_MIB_PER_GB, card.capability, size)
    return _find(gpu.name, size)


def named(name: str) -> GpuType | None:
    """Return the type of this name, in upper or lower case: `A100` is the one with 80 GB.

    >>> [named(name).name for name in ("rtx4090", "A100 40GB", "NVIDIA H100 NVL")]
    ['RTX 4090', 'A100-40G', 'H100 NVL']
    """
    if type := _find(name, None):
        return type
    sized = NAME_WITH_SIZE.fullmatch(name.strip())
    return _find(sized[1], int(sized[2])) if sized else None


def parse(text: str) -> list[Gpu]:
    """Read GPUs as people write them. Raises `BadUsage` for a type that pi does not know.

    >>> [gpu.name for gpu in parse("1x H100, 2x L4")]
    ['NVIDIA H100 80GB HBM3', 'NVIDIA L4', 'NVIDIA L4']
    """
    names = [name for part in text.split(",") for name in _names(part.strip(), text)]
    return [replace(_gpu(name), id=id) for id, name in enumerate(names)]


def _names(part: str, text: str) -> Iterator[str]:
    match = COUNTED_NAME.fullmatch(part)
    if not match or (match[1] and int(match[1]) == 0):
        raise BadUsage(f"`{text}` does not name GPUs", hint='write them like "2x H100" or "1x H100, 2x L4"')
    yield from [match[2]] * int(match[1] or 1)


def _gpu(name: str) -> Gpu:
    """Return a GPU of a type, as `pods.json` would record it."""
    type = named(name)
    if type is None:
        similar = " or ".join(f"`{known}`" for known in _similar(name))
        hint = f"did you mean {similar}?" if similar else f"pi knows {', '.join(known.name for known, _ in TABLE)}"
        raise BadUsage(f"pi does not know the GPU `{name}`", hint=hint)
    return Gpu(0, next(names[0] for known, names in TABLE if known == type), f"{type.size}GB")


def _similar(name: str) -> list[str]:
    """Return types that may be meant by an unknown name: those with another size, else those with a similar name."""
    sized = NAME_WITH_SIZE.fullmatch(name)
    if sized and (others := TYPES_BY_KEY.get(_key(sized[1]))):
        return [type.name for type in others]
    names = {_key(type.name): type.name for type, _ in TABLE}
    return [names[key] for key in difflib.get_close_matches(_key(name), names, n=3, cutoff=SIMILARITY_CUTOFF)]


@functools.lru_cache  # the catalogue asks it for every GPU and every configuration
def _find(name: str, size: int | None) -> GpuType | None:
    """Return the first type of this name and, if it is given, of this size in GB."""
    return next((type for type in TYPES_BY_KEY.get(_key(name), ()) if size is None or _has_size(type, size)), None)


def _has_size(type: GpuType, size: int) -> bool:
    return abs(type.size - size) <= SIZE_TOLERANCE * type.size


def _key(name: str) -> str:
    """Return the part of a name that identifies the type.

    >>> _key("NVIDIA GeForce RTX 4090") == _key("rtx4090")
    True
    """
    return BRANDS.sub("", name.lower())


def _gigabytes(memory: str) -> int | None:
    match = re.fullmatch(r"(\d+)\s*GB", memory)
    return int(match[1]) if match else None


def _types_by_key() -> dict[str, list[GpuType]]:
    types: dict[str, list[GpuType]] = {}
    for type, names in TABLE:
        for key in dict.fromkeys(_key(name) for name in (type.name, *names)):
            types.setdefault(key, []).append(type)
    return types


TYPES_BY_KEY = _types_by_key()

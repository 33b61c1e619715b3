"""Models and GPUs for tests of the planner, independent of the catalogue's figures."""

from pi_cli.planning import gpu_space
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.catalogue import Configuration, Entry
from pi_cli.planning.fit import ModelShape
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel
from pi_cli.store.records import Gpu, Model

NAMES = {
    "H100": ("NVIDIA H100 80GB HBM3", "80GB"),
    "H200": ("NVIDIA H200", "141GB"),
    "A100": ("NVIDIA A100-SXM4-80GB", "80GB"),
    "L4": ("NVIDIA L4", "24GB"),
    "T4": ("Tesla T4", "16GB"),
    "slice": ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "40GB"),
}
DENSE_32B = Architecture("Qwen3ForCausalLM", 64, (Layers("full", 64, kv_heads=8, head_dim=128),), 131072)


def gpus(count: int, kind: str = "H100", first: int = 0) -> list[Gpu]:
    name, memory = NAMES[kind]
    ids = range(first, first + count)
    return [Gpu(id, name, memory, {"uuid": f"MIG-{id}"} if kind == "slice" else {}) for id in ids]


def spaces(count: int, kind: str = "H100", *, used: dict[int, int] | None = None, **models: Model) -> list[GpuSpace]:
    """Return `count` GPUs with these models on them; `used` is what nvidia-smi reports, in MiB."""
    free = gpu_space.measure(gpus(count, kind), {}, {})
    return gpu_space.measure(gpus(count, kind), models, {id: (mib, free[0].total) for id, mib in (used or {}).items()})


def running(gpu: str, memory: float | None = None) -> Model:
    return Model("m/m", port=8001, gpu=gpu, pid=1, extra={"memory": memory} if memory else {})


def from_hub(
    weights: float = 65.5e9, dtype: str = "bfloat16", architecture: Architecture | None = DENSE_32B
) -> KnownModel:
    """Return a model that is not in the catalogue, with its size and architecture as read from the Hub."""
    shape = ModelShape(weights, dtype, architecture)
    return KnownModel("someone/model-32b", shape, None, "hermes", "qwen3")


def catalogued(
    *hardware: tuple[str, int, tuple[str, ...]], weights_gb: float = 65.5, dtype: str = "bfloat16"
) -> KnownModel:
    """Return a model of the catalogue with configurations (GPU type, number, arguments)."""
    configurations = tuple(Configuration((kind,), count, args, source="a test") for kind, count, args in hardware)
    entry = Entry(
        id="maker/model-32b", hardware=configurations, weights_gb=weights_gb, dtype=dtype, architecture=DENSE_32B
    )
    return KnownModel(entry.id, ModelShape(weights_gb * 1e9, dtype, DENSE_32B), entry)

"""What is on each GPU of a pod and how much of its memory is free; which GPUs a model goes to."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pi_cli import units
from pi_cli.errors import HeldGpu
from pi_cli.planning import gpu_types
from pi_cli.store.records import Gpu, Model, Pod
from pi_cli.vllm import vllm_arguments

# MiB: a model uses up to this much more than its share, and CUDA has up to 1 GiB less than nvidia-smi shows.
SLACK_MIB = 768
# Of a GPU's memory: what a driver, a display or a notebook's kernel uses. A model uses far more.
IDLE_SHARE = 0.1
MIN_SHARE = 0.05
# Of unified memory: the system, vLLM's own processes and the file cache through which weights are read need the rest,
# about 23 GiB. What people use on these machines is 0.7 to 0.85; not measured here.
UNIFIED_SHARE = 0.8
MIB_PER_GB = 1024 * 0.95  # a board's memory as vendors count it against what nvidia-smi shows of it


@dataclass(frozen=True, slots=True)
class GpuSpace:
    """A GPU and its memory in MiB; `models` are the names of the models on it.

    `capability` is CUDA's compute capability, None for a GPU we do not know. What `taken` has beyond the models' own
    shares is used by other processes. `is_unified`: it is the memory of the whole machine, of which the machine's own
    programs need a part that no command reports as used.
    """

    gpu: Gpu
    total: int
    taken: int = 0
    models: tuple[str, ...] = ()
    kind: str = ""
    capability: tuple[int, int] | None = None
    is_unified: bool = False

    @property
    def is_free(self) -> bool:
        return not self.models and self.taken <= IDLE_SHARE * self.total

    @property
    def share(self) -> float:
        """Return the share of the memory that a new model can use, in whole percents; 0.0 if it is too small to use."""
        if self.taken <= IDLE_SHARE * self.total / 4:  # a driver's own; vLLM's default leaves more than that
            return 1.0
        share = math.floor((self.total - self.taken - SLACK_MIB) / self.total * 100) / 100
        return share if share >= MIN_SHARE else 0.0

    @property
    def is_slice(self) -> bool:
        return self.gpu.is_slice


def measure(gpus: Sequence[Gpu], models: Mapping[str, Model], used: Mapping[int, tuple[int, int]]) -> list[GpuSpace]:
    """Return the space on every GPU; `used` is what nvidia-smi reports: (used, total) MiB by GPU id, where known.

    A model that is still loading does not use its memory yet: it counts with the share that it was given.
    """
    return [_measure(gpu, models, used) for gpu in gpus]


def _measure(gpu: Gpu, models: Mapping[str, Model], used: Mapping[int, tuple[int, int]]) -> GpuSpace:
    type = gpu_types.recognise(gpu)
    in_use, total = used.get(gpu.id, (0, type.memory_mib if type else _memory(gpu.memory)))
    models_on_gpu = {name: model for name, model in models.items() if gpu.id in model.gpus}
    taken = max(in_use, round(sum(share_of(model) for model in models_on_gpu.values()) * total))
    names = tuple(sorted(models_on_gpu))
    if type is None:
        return GpuSpace(gpu, total, taken, names, gpu.name)
    return GpuSpace(gpu, total, taken, names, type.name, type.capability, type.is_unified)


def default_share(spaces: Sequence[GpuSpace]) -> float:
    """Return the share of the memory that a model gets where no argument says it."""
    return UNIFIED_SHARE if any(space.is_unified for space in spaces) else vllm_arguments.DEFAULT_MEMORY


def recorded(pod: Pod) -> list[GpuSpace]:
    """Return the space on a pod's GPUs according to `pods.json`."""
    return measure(pod.gpus, pod.models, {})


def observed(
    pod: Pod, present: Collection[int], models: Mapping[str, Model], used: Mapping[int, tuple[int, int]]
) -> list[GpuSpace]:
    """Return the space on a pod's GPUs now, from the GPU ids that are `present` and the `models` that run.

    Only recorded GPUs count, which may be fewer than the pod has, without those that have disappeared. If nvidia-smi
    failed, all recorded GPUs count.
    """
    return measure([gpu for gpu in pod.gpus if gpu.id in present] or pod.gpus, models, used)


def emptied(spaces: Sequence[GpuSpace]) -> list[GpuSpace]:
    """Return the same GPUs with nothing on them."""
    return [replace(space, taken=0, models=()) for space in spaces]


def held(spaces: Sequence[GpuSpace]) -> tuple[HeldGpu, ...]:
    """Return the GPUs that are not free, and the models on them."""
    return tuple(HeldGpu(space.gpu.id, space.taken, space.total, space.models) for space in spaces if not space.is_free)


def kinds(spaces: Sequence[GpuSpace]) -> str:
    """Name the GPUs: `2x H100, 1x L4`."""
    return units.counted(space.kind for space in spaces)


def share_of(model: Model) -> float:
    """Return the share of each GPU's memory that a model was given; vLLM's default if pi does not know it."""
    share = model.extra.get("memory")
    return float(share) if isinstance(share, int | float) else vllm_arguments.DEFAULT_MEMORY


def by_type(spaces: Sequence[GpuSpace]) -> list[list[GpuSpace]]:
    """Group GPUs of one type and size, since a mix serves one model badly. The largest group comes first."""
    groups: dict[tuple[str, int], list[GpuSpace]] = {}
    for space in spaces:
        groups.setdefault((space.gpu.name, space.total), []).append(space)
    return sorted(groups.values(), key=len, reverse=True)


def least_used(spaces: Sequence[GpuSpace], count: int, share: float) -> list[GpuSpace] | None:
    """Return the `count` GPUs with the fewest models that have this share free, lowest id first; None if too few do."""
    suitable = [space for space in spaces if space.share >= share]
    ranked = sorted(suitable, key=_usage)
    return sorted(ranked[:count], key=_id) if len(suitable) >= count else None


def most_free(spaces: Sequence[GpuSpace], count: int) -> tuple[list[GpuSpace], float]:
    """Return the `count` GPUs with the most free memory and the share that each has; `[], 0.0` if there are too few."""
    chosen = sorted(spaces, key=lambda space: (-space.share, space.gpu.id))[:count]
    if not chosen or len(chosen) < count:
        return [], 0.0
    return sorted(chosen, key=_id), min(space.share for space in chosen)


def _usage(space: GpuSpace) -> tuple[bool, int, bool, int]:
    return not space.is_free, len(space.models), space.taken > SLACK_MIB, space.gpu.id


def _id(space: GpuSpace) -> int:
    return space.gpu.id


def _memory(text: str) -> int:
    """Return the MiB of a board whose size is written as `48GB`; 0 if it is unknown.

    >>> _memory("100GB"), _memory("unknown")
    (97280, 0)
    """
    size = re.fullmatch(r"(\d+)\s*GB", text)
    return round(int(size[1]) * MIB_PER_GB) if size else 0

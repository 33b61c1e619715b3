"""What is on each GPU of a pod and how much room it has; which GPUs a model goes to."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pi_cli import units
from pi_cli.planning import gpu_types, vllm_arguments
from pi_cli.store.records import Gpu, Model, Pod

SLACK = 768  # MiB: a model takes so much more than its share, and CUDA has up to 1 GiB less than nvidia-smi says
IDLE_SHARE = 0.1  # of a GPU's memory: what a driver, a display and a notebook's kernel hold; a model holds far more
LEAST_SHARE = 0.05
MIB_PER_GB = 1024 * 0.95  # a board's memory as vendors count it against what nvidia-smi shows of it


@dataclass(frozen=True, slots=True)
class GpuSpace:
    """A GPU and the room on it, in MiB; `models` are the names of those that are there.

    `capability` is CUDA's compute capability, None for a GPU we do not know. What `taken` holds beyond the models' own
    shares is held by somebody else.
    """

    gpu: Gpu
    total: int
    taken: int = 0
    models: tuple[str, ...] = ()
    kind: str = ""
    capability: tuple[int, int] | None = None

    @property
    def is_free(self) -> bool:
        return not self.models and self.taken <= IDLE_SHARE * self.total

    @property
    def share(self) -> float:
        """Return the share of the memory that a new model can have, in whole percents; 0.0 if none worth having."""
        if self.taken <= IDLE_SHARE * self.total / 4:  # a driver's own; vLLM's default leaves more than that
            return 1.0
        share = math.floor((self.total - self.taken - SLACK) / self.total * 100) / 100
        return share if share >= LEAST_SHARE else 0.0

    @property
    def is_slice(self) -> bool:
        return self.gpu.is_slice


def measure(gpus: Sequence[Gpu], models: Mapping[str, Model], used: Mapping[int, tuple[int, int]]) -> list[GpuSpace]:
    """Return the room on every GPU; `used` is what nvidia-smi says: (used, total) MiB by GPU id, where it is known.

    A model that still loads does not hold its memory yet: what it will take counts.
    """
    found = []
    for gpu in gpus:
        kind = gpu_types.recognise(gpu)
        held, total = used.get(gpu.id, (0, kind.memory_mib if kind else _memory(gpu.memory)))
        here = {name: model for name, model in models.items() if gpu.id in model.gpus}
        shares = sum(share_of(model) for model in here.values())
        taken = max(held, round(shares * total))
        space = GpuSpace(
            gpu, total, taken, tuple(sorted(here)), kind.name if kind else gpu.name, kind.capability if kind else None
        )
        found.append(space)
    return found


def recorded(pod: Pod) -> list[GpuSpace]:
    """Return the room on a pod's GPUs as `pods.json` has it."""
    return measure(pod.gpus, pod.models, {})


def observed(
    pod: Pod, there: Collection[int], models: Mapping[str, Model], used: Mapping[int, tuple[int, int]]
) -> list[GpuSpace]:
    """Return the room on a pod's GPUs as it is now: the ids that are `there`, the `models` that run, the memory `used`.

    They are those recorded, which may be fewer than there are, less any that are gone; where nvidia-smi has failed, all
    that are recorded.
    """
    return measure([gpu for gpu in pod.gpus if gpu.id in there] or pod.gpus, models, used)


def kinds(spaces: Sequence[GpuSpace]) -> str:
    """Name the GPUs that the spaces are on: `2x H100, 1x L4`."""
    return units.counted(space.kind for space in spaces)


def share_of(model: Model) -> float:
    """Return the share of each GPU's memory that a model was given; what pi does not know has vLLM's default."""
    share = model.extra.get("memory")
    return float(share) if isinstance(share, int | float) else vllm_arguments.DEFAULT_MEMORY


def by_type(places: Sequence[GpuSpace]) -> list[list[GpuSpace]]:
    """Group GPUs of one type and size: only such serve one model together well. The largest group comes first."""
    kinds: dict[tuple[str, int], list[GpuSpace]] = {}
    for space in places:
        kinds.setdefault((space.gpu.name, space.total), []).append(space)
    return sorted(kinds.values(), key=len, reverse=True)


def least_used(places: Sequence[GpuSpace], count: int, share: float) -> list[GpuSpace] | None:
    """Return the `count` GPUs with the fewest models that have so much room, lowest id first; None if too few have."""
    roomy = [space for space in places if space.share >= share]
    chosen = sorted(roomy, key=lambda space: (not space.is_free, len(space.models), space.taken > SLACK, space.gpu.id))
    return sorted(chosen[:count], key=lambda space: space.gpu.id) if len(roomy) >= count else None


def most_free(places: Sequence[GpuSpace], count: int) -> tuple[list[GpuSpace], float]:
    """Return the `count` GPUs with the most space and the share that each of them has; none and 0.0 if too few."""
    chosen = sorted(places, key=lambda space: (-space.share, space.gpu.id))[:count]
    if not chosen or len(chosen) < count:
        return [], 0.0
    return sorted(chosen, key=lambda space: space.gpu.id), min(space.share for space in chosen)


def _memory(text: str) -> int:
    """Return the MiB of a board whose size is known as `48GB`; 0 if it is not known at all.

    >>> _memory("100GB"), _memory("unknown")
    (97280, 0)
    """
    size = re.fullmatch(r"(\d+)\s*GB", text)
    return round(int(size[1]) * MIB_PER_GB) if size else 0

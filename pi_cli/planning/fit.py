"""Whether a model fits GPUs: weights, KV cache and overhead against their memory, as vLLM will divide it.

vLLM takes `total x --gpu-memory-utilization` of each GPU, puts the weights and what it needs to run there, and gives
the rest to the KV cache; it starts if that holds one request of the served context (v1/worker/gpu_worker.py,
v1/core/kv_cache_utils.py of vLLM 0.32). Pure arithmetic: nothing is asked and nothing is run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pi_cli.planning import kv_cache
from pi_cli.planning.architecture import Architecture
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.vllm_arguments import Options

GIB = 2**30
MIB_PER_GIB = 1024
USABLE = 0.985  # of what nvidia-smi calls total, CUDA shows a program so much

# GiB beside weights and KV cache: CUDA context, NCCL, activations of the largest batch, CUDA graphs. An assumption,
# until a start has been measured (`measurements`): larger batches and vision encoders need more.
OVERHEAD_OF_SMALL_GPUS, OVERHEAD, SMALL = 2.5, 4.0, 50.0

# Batches of the profiling run by GPU memory in GiB (vLLM 0.32, engine/arg_utils.py); A100s are treated as small.
LARGEST, LARGE = 160.0, 70.0

# Of the weights of a large mixture of experts, the experts' part (0.975 to 0.983 by the shapes of those in the
# catalogue): the rest is copied to every data parallel rank.
EXPERTS_SHARE = 0.975

NATIVE = {"fp8": (8, 9), "nvfp4": (10, 0), "mxfp4": (8, 0)}  # else vLLM 0.32's least, below
LEAST_CAPABILITY = (7, 5)
BF16_CAPABILITY = (8, 0)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What of a model counts for memory: the bytes of its weights, what they are in (`bfloat16`, `fp8`…), its layers.

    Without `architecture` nothing is known of its KV cache.
    """

    weights: float
    dtype: str = ""
    architecture: Architecture | None = None


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """What vLLM itself said at an earlier start with so many GPUs in tensor parallel: GiB per GPU that are not KV
    cache."""

    not_kv_cache: float
    tensor: int = 1
    vllm: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """Where the memory of each GPU goes, in GiB. `taken` is held by others; the shares may exceed the total."""

    total: float
    taken: float
    weights: float
    overhead: float
    kv_cache: float

    @property
    def free(self) -> float:
        return max(0.0, self.total - self.taken - self.weights - self.overhead - self.kv_cache)


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """How a model sits on its GPUs. Contexts and KV cache are in tokens, None where the architecture is unknown.

    `context` is what it would serve, `longest` the longest that fits; `concurrency` is how many requests of `context`
    tokens fit at once, all replicas together. `is_measured`: an earlier start told, not our assumptions.
    """

    memory: Memory
    context: int | None = None
    longest: int | None = None
    tokens: int | None = None
    concurrency: float | None = None
    is_measured: bool = False

    @property
    def is_enough(self) -> bool:
        """Tell whether vLLM would start."""
        if self.memory.kv_cache <= 0:
            return False
        return self.longest is None or (self.longest > 0 and (self.context or 0) <= self.longest)


def estimate(
    shape: ModelShape, spaces: Sequence[GpuSpace], options: Options, measured: MeasuredMemory | None = None
) -> MemoryFit:
    """Lay a model out over GPUs of one kind, as these options say."""
    total = min(space.total for space in spaces) / MIB_PER_GIB * USABLE
    taken = max(space.taken for space in spaces) / MIB_PER_GIB
    weights = weights_per_gpu(shape, options)
    overhead = OVERHEAD_OF_SMALL_GPUS if total < SMALL else OVERHEAD
    if measured:
        overhead = max(0.0, measured.not_kv_cache - weights)
    memory = Memory(total, taken, weights, overhead, max(0.0, total * options.memory - weights - overhead))
    if shape.architecture is None:
        return MemoryFit(memory, is_measured=measured is not None)
    return _with_context(memory, shape.architecture, spaces, options, is_measured=measured is not None)


def weights_per_gpu(shape: ModelShape, options: Options) -> float:
    """Return the GiB of weights on each GPU. Data parallel ranks share the experts, and copy all else."""
    split = shape.weights / GIB / (options.tensor * options.pipeline)
    if options.data == 1 or not options.is_expert_parallel:
        return split
    return split * (EXPERTS_SHARE / options.data + 1 - EXPERTS_SHARE)


def cannot_run(dtype: str, capability: tuple[int, int] | None) -> str | None:
    """Say why a GPU cannot run weights of a type; None if it can, or is not known."""
    least = NATIVE.get(dtype, LEAST_CAPABILITY)
    if capability is None or capability >= least:
        return None
    has, needs = (f"{major}.{minor}" for major, minor in (capability, least))
    what = f"{dtype.upper()} weights need" if dtype in NATIVE else "vLLM needs"
    return f"{what} compute capability {needs}, and it has {has}"


def divides(architecture: Architecture, tensor: int) -> bool:
    """Tell whether attention heads, and key heads of each kind of layer, can be split over so many GPUs."""
    heads = [layers.kv_heads for layers in architecture.layers if layers.kv_heads]
    return architecture.heads % tensor == 0 and all(count % tensor == 0 or tensor % count == 0 for count in heads)


def cuts_blocks(architecture: Architecture, tensor: int) -> bool:
    """Tell whether tensor parallelism would cut the blocks in which the experts' weights are quantised."""
    size, block = architecture.expert_size, architecture.block_size
    return bool(size and block) and (size % tensor != 0 or size // tensor % block != 0)


def batched_tokens(space: GpuSpace) -> int:
    """Return the size of the batches that vLLM plans for on a GPU."""
    memory = space.total / MIB_PER_GIB
    if memory >= LARGEST:
        return 16384
    return 8192 if memory >= LARGE and not space.kind.startswith("A100") else 2048


def _with_context(
    memory: Memory, architecture: Architecture, spaces: Sequence[GpuSpace], options: Options, *, is_measured: bool
) -> MemoryFit:
    available = int(memory.kv_cache * GIB)
    layout = kv_cache.Layout(
        tensor=options.tensor,
        pipeline=options.pipeline,
        element_bytes=options.kv_bytes,
        batched_tokens=options.batched_tokens or batched_tokens(spaces[0]),
    )
    longest = kv_cache.longest_context(architecture, available, layout)
    context = options.context or architecture.max_context
    if options.is_context_auto:
        context = min(context, longest)
    found = kv_cache.capacity(architecture, available, layout, context=max(1, context))
    return MemoryFit(memory, context, longest, found.tokens, found.concurrency * options.data, is_measured)

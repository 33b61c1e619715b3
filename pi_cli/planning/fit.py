"""Whether a model fits GPUs: weights, KV cache and overhead against their memory, as vLLM divides it.

vLLM takes `total x --gpu-memory-utilization` of each GPU, loads the weights, reserves what it needs to run (`overhead`)
and gives the rest to the KV cache. It starts if that cache has space for one request of the served context
(v1/worker/gpu_worker.py, v1/core/kv_cache_utils.py of vLLM 0.32). Pure arithmetic: no requests, no processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi_cli.planning import kv_cache, overhead
from pi_cli.planning.architecture import Architecture
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.overhead import Batch
from pi_cli.vllm.vllm_arguments import Options

GIB = 2**30
MIB_PER_GIB = 1024
USABLE_SHARE = 0.985  # of the total that nvidia-smi shows: what CUDA offers to a program

# The GPU memory in GiB by which vLLM 0.32 chooses the batch size of its profiling run (engine/arg_utils.py); it counts
# A100s among the small ones.
LARGEST_GPU, LARGE_GPU = 160.0, 70.0
SEQUENCES_OF_LARGE_GPU, SEQUENCES = 1024, 256  # requests at once

# The experts' part of the weights of a large mixture of experts (0.975 to 0.983 by the shapes of those in the
# catalogue). The rest is copied to every data-parallel rank.
EXPERTS_SHARE = 0.975

ERRORS_TO_BE_SURE = 3.0  # a KV cache of so many times the error of the estimate is sure to be large enough
AMPLE_CONCURRENCY = 2.0  # requests of the full context at once, above which more GPUs are not worth having


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a model's memory depends on: the bytes and the type of its weights (`bfloat16`, `fp8`…), and its layers.

    Without `architecture`, or without the layers in it, nothing is known of its KV cache. `methods` are vLLM's names of
    its quantisation, where they are known (`quantisation.methods`). `is_sparse`: its attention is that of
    DeepSeek-V3.2, with an index of the cache.
    """

    weights: float
    dtype: str = ""
    architecture: Architecture | None = None
    methods: tuple[str, ...] = ()
    is_sparse: bool = False


@dataclass(frozen=True, slots=True)
class MeasuredMemory:
    """What vLLM reported at an earlier start with this tensor parallel size: the GiB per GPU that are not KV cache."""

    not_kv_cache: float
    tensor: int = 1
    vllm: str = ""


@dataclass(frozen=True, slots=True)
class Memory:
    """How the memory of each GPU is used, in GiB. `taken` is used by others; the sum may exceed the total."""

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
    """How a model fits its GPUs. Contexts and KV cache are in tokens, None where the architecture is unknown.

    `context` is what it would serve, `longest` the longest that fits. `concurrency` is how many requests of `context`
    tokens fit at once, over all replicas. `is_measured`: based on an earlier start instead of our estimate of the
    overhead, which may be wrong by `error` GiB per GPU. `state_blocks` are the blocks of each replica's KV cache, of
    which a model with linear layers needs one for every request; None for other models.
    """

    memory: Memory
    context: int | None = None
    longest: int | None = None
    tokens: int | None = None
    concurrency: float | None = None
    is_measured: bool = False
    state_blocks: int | None = None
    error: float = 0.0

    @property
    def hangs_on_the_estimate(self) -> bool:
        """Return whether the KV cache may be much smaller than expected, or too small for the context."""
        kv_cache = self.memory.kv_cache
        if not self.error or kv_cache < ERRORS_TO_BE_SURE * self.error:
            return self.error > 0
        return (self.tokens or 0) * (kv_cache - self.error) < (self.context or 0) * kv_cache

    @property
    def may_be_refused(self) -> bool:
        """Return whether vLLM may find no memory for a KV cache, since the overhead is an estimate."""
        return self.memory.kv_cache < self.error

    @property
    def is_enough(self) -> bool:
        """Return whether vLLM would start."""
        if self.memory.kv_cache <= 0:
            return False
        return self.longest is None or (self.longest > 0 and (self.context or 0) <= self.longest)

    @property
    def is_tight(self) -> bool:
        """Return whether the KV cache is too small to serve the full context to several requests at once."""
        return self.concurrency is not None and self.concurrency < AMPLE_CONCURRENCY


def estimate(
    shape: ModelShape, spaces: Sequence[GpuSpace], options: Options, measured: MeasuredMemory | None = None
) -> MemoryFit:
    """Estimate how a model fits GPUs of one kind with these options."""
    total = min(space.total for space in spaces) / MIB_PER_GIB * USABLE_SHARE
    taken = max(space.taken for space in spaces) / MIB_PER_GIB
    weights = weights_per_gpu(shape, options)
    expected = overhead.estimate(
        shape.architecture, weights, shape.dtype, options, batch(spaces[0], options), spaces[0].capability
    )
    beside = max(0.0, measured.not_kv_cache - weights) if measured else expected.total
    memory = Memory(total, taken, weights, beside, max(0.0, total * options.memory - weights - beside))
    made = MemoryFit(memory, is_measured=measured is not None, error=0.0 if measured else expected.error)
    if shape.architecture is None or not shape.architecture.layers:
        return made
    return _with_context(made, shape.architecture, spaces, options)


def weights_per_gpu(shape: ModelShape, options: Options) -> float:
    """Return the GiB of weights on each GPU. Data-parallel ranks share the experts and copy the rest."""
    split = shape.weights / GIB / (options.tensor * options.pipeline)
    if options.data == 1 or not options.is_expert_parallel:
        return split
    return split * (EXPERTS_SHARE / options.data + 1 - EXPERTS_SHARE)


def divides(architecture: Architecture, tensor: int) -> bool:
    """Return whether the attention heads, and the key heads of each kind of layer, can be split over this many GPUs."""
    heads = [layers.kv_heads for layers in architecture.layers if layers.kv_heads]
    return architecture.heads % tensor == 0 and all(count % tensor == 0 or tensor % count == 0 for count in heads)


def cuts_blocks(architecture: Architecture, tensor: int) -> bool:
    """Return whether tensor parallelism would cut the blocks in which the experts' weights are quantised."""
    size, block = architecture.expert_size, architecture.block_size
    return bool(size and block) and (size % tensor != 0 or size // tensor % block != 0)


def batched_tokens(space: GpuSpace) -> int:
    """Return the batch size that vLLM chooses for a GPU."""
    memory = space.total / MIB_PER_GIB
    if memory >= LARGEST_GPU:
        return 16384
    return 8192 if memory >= LARGE_GPU and not space.kind.startswith("A100") else 2048


def requests_at_once(space: GpuSpace) -> int:
    """Return how many requests vLLM runs at once on a GPU, if it is not told otherwise."""
    is_large = space.total / MIB_PER_GIB >= LARGE_GPU and not space.kind.startswith("A100")
    return SEQUENCES_OF_LARGE_GPU if is_large else SEQUENCES


def batch(space: GpuSpace, options: Options) -> Batch:
    """Return the largest batch that vLLM runs, with these options on a GPU."""
    tokens = options.batched_tokens or batched_tokens(space)
    return Batch(tokens, min(options.sequences or requests_at_once(space), tokens))


def _with_context(
    made: MemoryFit, architecture: Architecture, spaces: Sequence[GpuSpace], options: Options
) -> MemoryFit:
    available = int(made.memory.kv_cache * GIB)
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
    capacity = kv_cache.capacity(architecture, available, layout, context=max(1, context))
    return replace(
        made,
        context=context,
        longest=longest,
        tokens=capacity.tokens,
        concurrency=capacity.concurrency * options.data,
        state_blocks=kv_cache.blocks(architecture, available, layout) if architecture.has_linear_layers else None,
    )

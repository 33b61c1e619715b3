"""How many tokens fit vLLM's KV cache: the arithmetic of vLLM 0.32, in bytes and tokens.

The memory of a GPU is divided into blocks of one size, which all requests share. Layers that store the same share their
block ids in groups of equal size, padded where they do not divide (`v1/core/kv_cache_utils.py`). A request needs the
blocks of all its groups (`v1/kv_cache_interface.py`):

- full and latent attention: context / block, rounded up;
- sliding window: (window - 1 + tokens in flight) / block, rounded up, and one more for a window that starts inside
  a block, but never for more than the context;
- linear attention: its number of states, for any context. The state is padded to a page of the attention layers,
  whose blocks grow until the state fits into one (`platforms/interface.py`).

What vLLM prints as `KV cache size` is blocks / blocks of one request of the full context, times that context.
"""

import functools
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pi_cli.planning.architecture import Architecture, Layers

# Blocks of latent attention beside linear layers are a multiple of this (platforms/interface.py).
LATENT_ALIGNMENT = 128
# Groups are as large as the smallest kind of layers, unless the largest has less than this many times its layers.
PADDED_UP_TO = 1.5
NULL_BLOCKS = 1  # vLLM never assigns its first block to a request (v1/core/block_pool.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The settings that determine vLLM's KV cache.

    `tensor` and `pipeline` are the degrees of parallelism. `element_bytes` is 2, or 1 for an FP8 cache.
    `block_tokens` is the block size of the attention backend: 16 for most on GPUs, 32 to 128 for some backends of
    latent attention, 128 on CPUs. `batched_tokens` is vLLM's `--max-num-batched-tokens`. `is_async`: the scheduler
    works one batch ahead, the default on GPUs (config/vllm.py).
    """

    tensor: int = 1
    pipeline: int = 1
    element_bytes: int = 2
    block_tokens: int = 16
    batched_tokens: int = 8192
    is_async: bool = True

    @property
    def tokens_in_flight(self) -> int:
        return (self.pipeline + self.is_async) * self.batched_tokens


@dataclass(frozen=True, slots=True)
class Capacity:
    """What vLLM prints when it starts: how many tokens fit, and how many requests of the full context that is."""

    tokens: int
    concurrency: float


@dataclass(frozen=True, slots=True)
class _Pages:
    """Layers of one kind, and the page of each in a block: its bytes, and how many tokens it stores."""

    layers: Layers
    tokens: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Pool:
    """The blocks of a GPU: the bytes of each, and the pages of every group, which say how many a request needs."""

    block_bytes: int
    groups: tuple[_Pages, ...]

    def blocks(self, context: int, in_flight: int) -> int:
        """Return how many blocks a request of `context` tokens needs."""
        return sum(_blocks(group, context, in_flight) for group in self.groups)

    def bytes(self, context: int, in_flight: int) -> int:
        """Return the bytes that a request of `context` tokens needs, including the null block."""
        return self.block_bytes * (self.blocks(context, in_flight) + NULL_BLOCKS)


def capacity(architecture: Architecture, space: int, layout: Layout, *, context: int) -> Capacity:
    """Return the capacity of `space` bytes on each GPU for requests of `context` tokens."""
    pool = _pool(architecture, layout)
    concurrency = space // pool.block_bytes / pool.blocks(context, layout.tokens_in_flight)
    return Capacity(int(concurrency * context), concurrency)


def blocks(architecture: Architecture, space: int, layout: Layout) -> int:
    """Return into how many blocks `space` bytes on each GPU are divided, including the null block."""
    return space // _pool(architecture, layout).block_bytes


def needed(architecture: Architecture, context: int, layout: Layout) -> int:
    """Return the bytes per GPU that vLLM needs to start: one request of `context` tokens and the null block.

    vLLM's own message names only the request's part.
    """
    return _pool(architecture, layout).bytes(context, layout.tokens_in_flight)


def longest_context(architecture: Architecture, space: int, layout: Layout) -> int:
    """Return the longest context in tokens with which vLLM starts in `space` bytes per GPU; 0 if there is none."""
    pool, in_flight = _pool(architecture, layout), layout.tokens_in_flight
    if pool.bytes(architecture.max_context, in_flight) <= space:
        return architecture.max_context
    contexts = range(1, architecture.max_context)
    return bisect_right(contexts, space, key=lambda context: pool.bytes(context, in_flight))


def bytes_per_token(architecture: Architecture, layout: Layout) -> float:
    """Return the bytes per GPU of each further token of a long request, including padding."""
    pool = _pool(architecture, layout)
    return sum(pool.block_bytes / group.tokens for group in pool.groups if group.layers.kind in {"full", "mla"})


def _blocks(pages: _Pages, context: int, in_flight: int) -> int:
    match pages.layers.kind:
        case "linear":
            return pages.layers.states
        case "sliding":
            return _divide_up(min(pages.layers.window - 1 + in_flight, context), pages.tokens) + 1
        case "full" | "mla":
            return _divide_up(context, pages.tokens)


@functools.lru_cache(maxsize=1024)  # one plan asks for it three or four times
def _pool(architecture: Architecture, layout: Layout) -> _Pool:
    kinds = _pages(architecture, layout)
    if len({_block_need(pages.layers) for pages in kinds}) == 1:  # then one group has all layers
        size = sum(_divide_up(pages.layers.count, layout.pipeline) * pages.bytes for pages in kinds)
        return _Pool(size, (kinds[0],))
    kinds = _with_equal_pages(kinds)
    size = _group_size(pages.layers.count for pages in kinds)
    groups = tuple(pages for pages in kinds for _ in range(_divide_up(pages.layers.count, size)))
    return _Pool(_divide_up(size, layout.pipeline) * kinds[0].bytes, groups)


def _block_need(layers: Layers) -> tuple[str, int, int]:
    """Return what decides how many blocks a request needs in these layers."""
    return layers.kind.replace("mla", "full"), layers.window, layers.states if layers.kind == "linear" else 0


def _pages(architecture: Architecture, layout: Layout) -> list[_Pages]:
    """Return the pages of each kind of layers. With linear layers, blocks are long enough for a state."""
    linear = [layers for layers in architecture.layers if layers.kind == "linear"]
    attention = [layers for layers in architecture.layers if layers.kind != "linear"]
    state = max((_divide_up(layers.state_bytes, layout.tensor) for layers in linear), default=0)
    token = max((_token_bytes(layers, layout) for layers in attention), default=0)
    tokens = layout.block_tokens
    if linear and attention:
        step = max(tokens, LATENT_ALIGNMENT) if any(layers.kind == "mla" for layers in attention) else tokens
        tokens = step * max(1, _divide_up(state, step * token))
    pages = [_Pages(layers, tokens, tokens * _token_bytes(layers, layout)) for layers in attention]
    return pages + [_Pages(layers, tokens, max(state, tokens * token)) for layers in linear]


def _token_bytes(layers: Layers, layout: Layout) -> int:
    """Return the bytes of a token in one layer on one GPU. With more GPUs than key heads, the heads are copied."""
    element = layers.element_bytes or layout.element_bytes
    if layers.kind == "mla":
        return layers.head_dim * element
    heads = max(1, layers.kv_heads // layout.tensor)
    return heads * (layers.head_dim + (layers.head_dim_v or layers.head_dim)) * element


def _with_equal_pages(kinds: list[_Pages]) -> list[_Pages]:
    """Enlarge all pages to the largest size: with longer blocks where that divides, else with padding."""
    largest = max(pages.bytes for pages in kinds)

    def enlarged(pages: _Pages) -> _Pages:
        ratio, rest = divmod(largest, pages.bytes)
        return replace(pages, bytes=largest, tokens=pages.tokens if rest else pages.tokens * ratio)

    return [enlarged(pages) for pages in kinds]


def _group_size(counts: Iterable[int]) -> int:
    smallest, *_, largest = sorted(counts)
    return largest if largest < smallest * PADDED_UP_TO else smallest


def _divide_up(count: int, by: int) -> int:
    return -(-count // by)

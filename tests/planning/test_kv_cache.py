"""How many tokens fit the KV cache, as vLLM computes it.

The expectations were taken from vLLM 0.32's own `get_kv_cache_configs` for layers of these shapes.
"""

from dataclasses import replace

import pytest

from pi_cli.planning import kv_cache
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.kv_cache import Capacity, Layout

GIB = 2**30
CONTEXT = 131072

LLAMA_70B = (Layers("full", 80, 8, 128),)
DEEPSEEK_V3 = (Layers("mla", 61, head_dim=576),)
INDEXED = (*DEEPSEEK_V3, Layers("mla", 61, head_dim=132, element_bytes=1))
MISTRAL_7B = (Layers("sliding", 32, 8, 128, window=4096),)
GPT_OSS = (Layers("sliding", 18, 8, 64, window=128), Layers("full", 18, 8, 64))
GEMMA_3 = (Layers("sliding", 52, 16, 128, window=1024), Layers("full", 10, 16, 128))
GEMMA_4 = (Layers("sliding", 50, 16, 256, window=1024), Layers("full", 10, 4, 512))
STEP_3_5 = (Layers("full", 12, 8, 128), Layers("sliding", 33, 6, 128, window=512))
QWEN_3_NEXT = (Layers("linear", 36, state_bytes=1097728), Layers("full", 12, 2, 256))
NEMOTRON = (Layers("full", 6, 2, 128), Layers("linear", 23, state_bytes=2134016, states=3))
KIMI_LINEAR = (Layers("linear", 21, state_bytes=2170880, states=3), Layers("mla", 6, head_dim=576))


def model(layers: tuple[Layers, ...], max_context: int = 262144) -> Architecture:
    return Architecture("Model", 64, layers, max_context)


@pytest.mark.parametrize(
    ("layers", "layout", "gib", "context", "capacity"),
    [
        pytest.param(GPT_OSS, Layout(), 10, CONTEXT, Capacity(258648, 1.9733333333333334), id="sliding and full"),
        pytest.param(GPT_OSS, Layout(tensor=2), 10, CONTEXT, Capacity(517297, 3.9466666666666668), id="on 2 GPUs"),
        pytest.param(
            GPT_OSS, Layout(tensor=16), 10, CONTEXT, Capacity(2069232, 15.7869918699187), id="heads are copied past 8"
        ),
        pytest.param(
            GPT_OSS, Layout(pipeline=2), 10, CONTEXT, Capacity(490096, 3.7391393653075897), id="in a pipeline of 2"
        ),
        pytest.param(
            GPT_OSS,
            Layout(pipeline=4, element_bytes=1),
            10,
            CONTEXT,
            Capacity(1596493, 12.180280643062913),
            id="in a pipeline of 4, in FP8",
        ),
        pytest.param(GEMMA_3, Layout(), 20, CONTEXT, Capacity(145829, 1.112589976911585), id="groups padded"),
        pytest.param(
            GEMMA_4,
            Layout(tensor=4),
            20,
            CONTEXT,
            Capacity(450159, 3.434440834294099),
            id="longer blocks for small pages",
        ),
        pytest.param(STEP_3_5, Layout(), 20, CONTEXT, Capacity(314974, 2.4030625715040044), id="pages padded"),
        pytest.param(QWEN_3_NEXT, Layout(), 20, 262144, Capacity(862711, 3.290983606557377), id="linear and full"),
        pytest.param(
            QWEN_3_NEXT,
            Layout(tensor=4, element_bytes=1),
            20,
            262144,
            Capacity(3451383, 13.165983606557377),
            id="the state is divided by tensor parallelism",
        ),
        pytest.param(NEMOTRON, Layout(), 20, 262144, Capacity(3166623, 12.079710144927537), id="Mamba 2 and full"),
        pytest.param(
            KIMI_LINEAR, Layout(tensor=2), 20, 262144, Capacity(2967704, 11.32089552238806), id="linear and latent"
        ),
        pytest.param(
            INDEXED, Layout(block_tokens=64), 20, CONTEXT, Capacity(274176, 2.091796875), id="latent, with an indexer"
        ),
        pytest.param(
            DEEPSEEK_V3,
            Layout(tensor=8, pipeline=2, element_bytes=1, block_tokens=64),
            20,
            CONTEXT,
            Capacity(1202624, 9.17529296875),
            id="latent",
        ),
    ],
)
def test_capacity_is_what_vllm_prints(
    layers: tuple[Layers, ...], layout: Layout, gib: int, context: int, capacity: Capacity
) -> None:
    assert kv_cache.capacity(model(layers), gib * GIB, layout, context=context) == capacity


@pytest.mark.parametrize(
    ("layers", "layout", "size"),
    [
        pytest.param(LLAMA_70B, Layout(), 327680, id="full"),
        pytest.param(LLAMA_70B, Layout(element_bytes=1), 163840, id="in FP8"),
        pytest.param(LLAMA_70B, Layout(tensor=8), 40960, id="one key head on each GPU"),
        pytest.param(LLAMA_70B, Layout(tensor=16), 40960, id="heads are copied beyond that"),
        pytest.param(LLAMA_70B, Layout(pipeline=2), 163840, id="half the layers on each GPU"),
        pytest.param(DEEPSEEK_V3, Layout(), 70272, id="latent"),
        pytest.param(DEEPSEEK_V3, Layout(tensor=8), 70272, id="latent vectors are complete on each GPU"),
        pytest.param(INDEXED, Layout(element_bytes=1), 35136 + 8052, id="an indexer's elements are always of one byte"),
        pytest.param(GPT_OSS, Layout(), 36864, id="only full attention grows"),
        pytest.param(QWEN_3_NEXT, Layout(), 24576, id="states do not grow"),
        pytest.param(MISTRAL_7B, Layout(), 0, id="nothing grows beyond the window"),
        pytest.param((Layers("full", 9, 4, 192, 128),), Layout(), 23040, id="values smaller than keys"),
    ],
)
def test_bytes_per_token_are_those_of_each_further_token(
    layers: tuple[Layers, ...], layout: Layout, size: float
) -> None:
    assert kv_cache.bytes_per_token(model(layers), layout) == size


@pytest.mark.parametrize("layers", [LLAMA_70B, DEEPSEEK_V3, GPT_OSS, GEMMA_3, GEMMA_4, QWEN_3_NEXT, NEMOTRON])
def test_the_longest_context_is_the_last_for_which_the_space_is_enough(layers: tuple[Layers, ...]) -> None:
    shape, space = model(layers, 10**7), 6 * GIB
    longest = kv_cache.longest_context(shape, space, Layout())
    assert 0 < longest < shape.max_context
    assert kv_cache.needed(shape, longest, Layout()) <= space < kv_cache.needed(shape, longest + 1, Layout())


def test_the_longest_context_is_at_most_that_of_the_model() -> None:
    assert kv_cache.longest_context(model(LLAMA_70B, 8192), 80 * GIB, Layout()) == 8192


def test_the_longest_context_is_zero_where_no_token_fits() -> None:
    needed = kv_cache.needed(model(LLAMA_70B), 1, Layout())
    assert kv_cache.longest_context(model(LLAMA_70B), needed - 1, Layout()) == 0
    assert kv_cache.longest_context(model(LLAMA_70B), 0, Layout()) == 0
    assert kv_cache.capacity(model(LLAMA_70B), 0, Layout(), context=1) == Capacity(0, 0.0)


def test_one_request_needs_its_blocks_and_the_null_block() -> None:
    """vLLM refused 131,072 tokens of this shape with `8.0 GiB KV cache is needed`, though 16,256 would have fit."""
    shape = model((Layers("full", 16, 8, 128),), CONTEXT)
    assert kv_cache.needed(shape, CONTEXT, Layout()) == 8 * GIB + 16 * 65536
    assert kv_cache.longest_context(shape, 16256 * 65536 + 16 * 65536, Layout()) == 16256


def test_a_window_stores_the_batches_in_flight_too() -> None:
    shape, two = model(MISTRAL_7B), Layout(batched_tokens=2048)
    one = replace(two, is_async=False)
    block = 16 * 32 * 8 * 256 * 2
    assert kv_cache.needed(shape, 32768, one) == block * (-(-(4095 + 2048) // 16) + 1 + 1)
    assert kv_cache.needed(shape, 32768, two) == block * (-(-(4095 + 4096) // 16) + 1 + 1)
    assert kv_cache.needed(shape, 100, two) == block * (7 + 1 + 1)

"""How many requests a plan lets a model with linear layers run at once: never more than its KV cache has blocks."""

from dataclasses import replace

import pytest

from pi_cli.planning import fit, kv_cache, plan, sequences
from pi_cli.planning.architecture import Architecture, Layers
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel
from pi_cli.vllm import vllm_arguments
from tests.planning.profiles import DENSE_32B, catalogued, from_hub, spaces

# Qwen3.6-27B, of which a public log (vllm-project/recipes, PR 551) tells the blocks.
QWEN_27B = Architecture(
    "Qwen3_5ForConditionalGeneration",
    24,
    (Layers("linear", 48, state_bytes=3207168), Layers("full", 16, kv_heads=4, head_dim=256)),
    262144,
)
MAX_NUM_SEQS = vllm_arguments.SEQUENCES
TWO = ("--tensor-parallel-size", "2")


def hybrid(weights: float = 28.9e9, dtype: str = "fp8") -> KnownModel:
    return from_hub(weights, dtype, QWEN_27B)


def of_catalogue(*arguments: tuple[str, ...]) -> KnownModel:
    """Return a model of the catalogue with a configuration for 1, 2… H100s for each of these arguments."""
    made = catalogued(*(("H100", number, given) for number, given in enumerate(arguments, start=1)))
    assert made.entry is not None
    entry = replace(made.entry, architecture=QWEN_27B, weights_gb=28.9, dtype="fp8")
    return replace(made, entry=entry, shape=hybrid().shape)


def make(profile: KnownModel, kind: str = "H100", count: int = 1, constraints: Constraints | None = None) -> Plan:
    return plan.make(profile, constraints or Constraints(), spaces(count, kind), pod="dc1")


def limit_of(made: Plan) -> int | None:
    return vllm_arguments.number(vllm_arguments.value(made.arguments, MAX_NUM_SEQS) or "")


def test_a_hybrid_model_gets_fewer_requests_at_once_than_its_kv_cache_has_blocks_and_the_plan_says_so() -> None:
    made = make(hybrid())
    assert made.fit is not None
    blocks = made.fit.state_blocks
    assert blocks is not None
    assert 700 < blocks < 1024  # with vLLM's default of 1024 requests it would not start
    limit = limit_of(made)
    assert limit is not None
    assert 0.45 * blocks < limit <= 0.5 * blocks
    assert limit % 8 == 0
    [reason] = [reason for reason in made.reasons if reason.startswith("--max-num-seqs")]
    assert reason.startswith(f"--max-num-seqs {limit}: each request needs a block of the KV cache")
    assert f"about {blocks:,}" in reason


def test_the_limit_never_costs_requests_that_could_have_run() -> None:
    layout = kv_cache.Layout()
    blocks = kv_cache.blocks(QWEN_27B, 40 * 2**30, layout)
    smallest = kv_cache.needed(QWEN_27B, 1, layout) * blocks // (40 * 2**30)  # in blocks, with the null block
    assert smallest > 2


def test_with_blocks_to_spare_nothing_is_added() -> None:
    assert limit_of(make(hybrid(6e9), "H200")) is None
    assert limit_of(make(from_hub())) is None  # it has no linear layers


def test_a_smaller_limit_of_the_catalogue_is_kept_and_a_larger_one_is_lowered() -> None:
    assert limit_of(make(of_catalogue(("--max-num-seqs", "16")))) == 16
    lowered = make(of_catalogue(("--max-num-seqs", "900")))
    limit = limit_of(lowered)
    assert limit is not None
    assert limit < 500
    assert any(reason.startswith(f"--max-num-seqs {limit}: ") for reason in lowered.reasons)


def test_a_derived_plan_keeps_the_limit_that_all_configurations_of_a_model_have() -> None:
    both = of_catalogue(("--max-num-seqs", "64"), (*TWO, "--max-num-seqs", "128"))
    assert limit_of(make(both, "H200")) == 64
    assert limit_of(make(of_catalogue(("--max-num-seqs", "64"), TWO), "H200")) != 64


def test_the_limit_of_a_single_configuration_is_not_taken_over_for_other_gpus() -> None:
    assert limit_of(make(of_catalogue(("--max-num-seqs", "4")), "H200", 8)) != 4


@pytest.mark.parametrize(
    ("arguments", "has_full_graphs"),
    [
        ((), True),
        (("--enforce-eager",), False),
        (("--enforce_eager",), False),
        (("-O0",), False),
        (("-O", "1"), False),
        (("-O=2",), True),
        (("--optimization-level", "0"), False),
        (("--compilation-config", '{"cudagraph_mode": "PIECEWISE"}'), False),
        (("-cc", '{"cudagraph_mode": "FULL_DECODE_ONLY"}'), True),
        (("--compilation-config.cudagraph_mode", "none"), False),
        (("-cc.cudagraph_mode=FULL", "-O0"), True),
        (("-cc", "{broken"), True),
        (("-cc", "3"), True),
    ],
)
def test_vllm_checks_the_blocks_only_with_full_cuda_graphs(arguments: tuple[str, ...], has_full_graphs: bool) -> None:
    assert sequences.has_full_graphs(arguments) is has_full_graphs
    is_limited = limit_of(make(of_catalogue(arguments))) is not None
    assert is_limited is has_full_graphs


@pytest.mark.parametrize(
    ("kind", "arguments", "requests"),
    [
        ("H100", (), 1024),
        ("A100", (), 256),
        ("L4", (), 256),
        ("L4", ("--performance-mode", "throughput"), 512),
        ("H100", ("--max-num-batched-tokens", "512"), 512),
        ("L4", ("--max-num-seqs", "4k"), 4000),
    ],
)
def test_the_number_of_requests_is_vllms_own_default(kind: str, arguments: tuple[str, ...], requests: int) -> None:
    [space] = spaces(1, kind)
    assert sequences.configured(arguments, space) == requests


def test_the_limit_is_never_more_than_a_batch_and_never_less_than_one() -> None:
    [space] = spaces(1)
    memory = fit.Memory(80, 0, 1, 1, 70)
    few = fit.MemoryFit(memory, state_blocks=3)
    assert sequences.capped((), space, few) == 1
    assert sequences.capped((), space, fit.MemoryFit(memory, state_blocks=1500)) == 744
    small_batch = ("--max-num-seqs", "900", "--max-num-batched-tokens", "500")  # which vLLM refuses
    assert sequences.capped(small_batch, space, fit.MemoryFit(memory, state_blocks=1500)) == 500
    assert sequences.capped((), space, fit.MemoryFit(memory)) is None
    assert DENSE_32B.has_linear_layers is False

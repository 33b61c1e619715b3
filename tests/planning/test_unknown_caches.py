"""Models whose KV cache is not known: split by their weights and heads, with the context left to vLLM."""

from dataclasses import replace
from typing import Any

import pytest

from pi_cli.errors import DoesNotFit
from pi_cli.planning import catalogue, gpu_space, gpu_types, lookup, plan, verdicts
from pi_cli.planning.architecture import Architecture, from_config, without_layers
from pi_cli.planning.candidates import CACHE_SHARE, Constraints
from pi_cli.planning.catalogue import Configuration, Entry
from pi_cli.planning.fit import ModelShape
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel

DEEPSEEK_V4: dict[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "hidden_size": 4096,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "num_hidden_layers": 43,
    "max_position_embeddings": 1048576,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
WHY = "the size of its KV cache is not known: the KV cache of `deepseek_v4` is not known"


def model(weights: float = 160e9, **changes: object) -> KnownModel:
    shape = ModelShape(weights, "fp8", without_layers({**DEEPSEEK_V4, **changes}))
    return KnownModel("deepseek-ai/DeepSeek-V4-Flash-0731", shape, unknown=WHY)


def make(profile: KnownModel, hardware: str, *, gpus: int | None = None, context: int | None = None) -> Plan:
    spaces = gpu_space.measure(gpu_types.parse(hardware), {}, {})
    return plan.make(profile, Constraints(gpus=gpus, context=context), spaces, pod="dc1")


def test_what_splits_a_model_is_known_without_its_kv_cache() -> None:
    with pytest.raises(ValueError, match="the KV cache of `deepseek_v4` is not known"):
        from_config(DEEPSEEK_V4)
    known = without_layers(DEEPSEEK_V4)
    assert isinstance(known, Architecture)
    assert (known.heads, known.layers, known.max_context) == (64, (), 1048576)
    assert (known.expert_size, known.block_size, known.shards.experts) == (2048, 128, 256)
    assert not known.has_linear_layers


def test_it_is_split_over_the_fewest_gpus_that_leave_a_fifth_of_their_memory() -> None:
    made = make(model(), "8x H100")
    assert made.gpus == (0, 1, 2, 3)
    assert made.arguments == ("--tensor-parallel-size", "4", "--max-model-len", "auto")
    assert made.fit is not None
    assert made.fit.context is None
    assert made.fit.memory.kv_cache > CACHE_SHARE * made.fit.memory.total * 0.92
    assert "the fewest that leave 20% of their memory for a KV cache of unknown size" in made.reasons[1]
    assert WHY in made.reasons
    [unknown] = [reason for reason in made.reasons if reason.startswith("how much context fits is not known: ")]
    assert f"about {made.fit.memory.kv_cache:.1f} GiB of each GPU are left for its KV cache" in unknown


@pytest.mark.parametrize(
    ("hardware", "count"), [("4x H200", 2), ("1x B300", 1), ("8x L40S", 8), ("4x RTX PRO 6000", 4)]
)
def test_every_kind_of_gpu_gets_the_number_that_the_weights_need(hardware: str, count: int) -> None:
    assert len(make(model(), hardware).gpus) == count


def test_where_less_is_left_than_that_it_is_tried_all_the_same() -> None:
    made = make(model(), "1x B200")
    assert made.gpus == (0,)
    assert "less than 20% of their memory for a KV cache of unknown size" in made.reasons[1]
    two = make(model(60e9), "1x H100, 1x L4")
    assert two.kind == "H100"


def test_the_requested_number_of_gpus_is_used_if_the_heads_can_be_split() -> None:
    assert len(make(model(), "8x H100", gpus=8).gpus) == 8
    with pytest.raises(DoesNotFit, match="its 64 attention heads cannot be split over 6 GPUs"):
        make(model(), "8x H100", gpus=6)


def test_experts_whose_blocks_would_be_cut_are_distributed() -> None:
    assert "--enable-expert-parallel" in make(model(moe_intermediate_size=1408), "8x H100").arguments


def test_without_heads_only_powers_of_two_are_tried() -> None:
    unknown = replace(model(), shape=ModelShape(160e9, "fp8", None))
    assert len(make(unknown, "8x H100").gpus) == 4
    with pytest.raises(DoesNotFit, match="its attention heads are not known, and few models can be split over 3 GPUs"):
        make(unknown, "8x H100", gpus=3)


def test_the_hint_of_a_refusal_names_hardware_that_leaves_enough_and_the_pods_own_kind_first() -> None:
    with pytest.raises(DoesNotFit) as caught:
        make(model(), "2x H100")
    assert "its weights take 74.5 GiB of each GPU" in str(caught.value)
    assert "but 2x H100 offer 72.2 each" in str(caught.value)
    assert "it would fit on 4x H100, " in str(caught.value.hint)
    assert "1x B200" not in str(caught.value.hint)  # one of them would leave too little to be sure


def test_a_requested_context_is_passed_on() -> None:
    assert make(model(), "8x H100", context=32768).arguments[-2:] == ("--max-model-len", "32768")


def entry(*hardware: Configuration) -> KnownModel:
    return lookup.from_catalogue(Entry("a/b", hardware, weights_gb=160, dtype="fp8"), [])


def test_an_entry_of_the_catalogue_without_an_architecture_is_split_as_well() -> None:
    h200 = Configuration(("H200",), 8, ("--tensor-parallel-size", "8", "--tool-call-parser", "deepseek_v4"))
    made = make(entry(h200), "8x H100")
    assert made.gpus == (0, 1, 2, 3)
    assert made.arguments == (
        *("--tensor-parallel-size", "4", "--tool-call-parser", "deepseek_v4"),
        *("--max-model-len", "auto"),
    )
    assert any(reason.startswith("how much context fits is not known") for reason in made.reasons)


def test_a_configuration_of_the_catalogue_is_trusted_with_less() -> None:
    one = Configuration(("B200",), 1, ("--max-model-len", "65536"))
    made = make(entry(one), "8x B200")
    assert made.gpus == (0,)
    assert made.arguments == ("--max-model-len", "65536")


def test_no_entry_of_the_catalogue_is_refused_on_8_gpus_that_hold_its_weights_twice() -> None:
    spaces = gpu_space.measure(gpu_types.parse("8x B300"), {}, {})
    for each in catalogue.entries():
        assert verdicts.judge(lookup.from_catalogue(each, []), spaces, pod="x").status in ("fits", "tight"), each.id

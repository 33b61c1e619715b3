"""On which numbers vLLM refuses to start: each condition, as pi checks it before a byte is downloaded.

The refusals are those of vLLM 0.32; the places in its source are in `pi_cli/planning/conditions.py`.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi_cli.errors import BadUsage, DoesNotFit
from pi_cli.planning import conditions, fit, plan
from pi_cli.planning.architecture import Architecture, Layers, from_config, without_layers
from pi_cli.planning.candidates import Constraints
from pi_cli.planning.plan import Plan
from pi_cli.planning.profile import KnownModel, UnknownModel
from pi_cli.planning.shards import Shards
from tests.planning.profiles import DENSE_32B, catalogued, from_hub, spaces
from tests.properties import PROPERTY

GQA = Architecture("X", 64, (Layers("full", 48, kv_heads=8, head_dim=128),), 131072)
LATENT = Architecture("X", 128, (Layers("mla", 61, head_dim=576),), 163840)
EXPERTS = replace(GQA, expert_size=1536, block_size=128, shards=Shards(experts=256, least_block=32))
STRICT_EXPERTS = replace(EXPERTS, shards=Shards(experts=256))
GROUPED_EXPERTS = replace(GQA, expert_size=768, shards=Shards(experts=128, expert_group_size=128))
HYBRID = replace(GQA, shards=Shards(linear_heads=(12, 48)))
DENSE = replace(GQA, shards=Shards(experts=0))
WIDE = replace(GQA, block_size=128, shards=Shards(widths=(9728,)))
GROUPED = replace(GQA, shards=Shards(widths=(9728,), group_size=128))
TWO_MTP_LAYERS = replace(GQA, shards=Shards(mtp_layers=2))
GEMMA_4 = replace(GQA, shards=Shards(item_tokens=2496))

REFUSED = [
    (GQA, "-tp 3", "its 64 attention heads cannot be split over 3 GPUs", "can be 1, 2, 4, 8 or 16"),
    (
        replace(GQA, heads=96),
        "-tp 6",
        "its 8 key heads can be neither split over 6 GPUs nor copied",
        "1, 2, 4, 8 or 16",
    ),
    (HYBRID, "-tp 8", "the 12 heads of its linear layers cannot be split over 8 GPUs", "can be 1, 2 or 4"),
    (replace(GQA, shards=Shards(experts=4)), "-tp 8", "its 4 experts are fewer than 8 GPUs", "can be"),
    (DENSE, "-tp 2 --enable-expert-parallel", "it has no experts", "leave the option out"),
    (
        STRICT_EXPERTS,
        "-tp 8",
        "width 1,536 of its experts, split over 8 GPUs, is not a whole",
        "--enable-expert-parallel",
    ),
    (STRICT_EXPERTS, "-dp 8", "split over 8 GPUs", "--enable-expert-parallel"),
    (replace(EXPERTS, expert_size=1472), "-tp 4", "not a whole number of FP8 blocks of 128", "--enable-expert"),
    (GROUPED_EXPERTS, "-tp 4", "not a whole number of quantisation groups of 128", "--enable-expert-parallel"),
    (WIDE, "-tp 8", "a layer of width 9,728, split over 8 GPUs, is not a whole number of FP8 blocks", "1, 2 or 4"),
    (GROUPED, "-tp 8", "is not a whole number of quantisation groups of 128", "1, 2 or 4"),
    (GQA, "-pp 64", "its 48 layers cannot be divided among 64 pipeline stages", "lower `--pipeline-parallel-size`"),
    (GQA, "-tp 4 -dcp 3", "`--tensor-parallel-size` 4 is not a multiple of", "--decode-context-parallel-size"),
    (GQA, "-tp 8 -dcp 2", "decode context parallelism is at most 1", "leave it out"),
    (EXPERTS, "-tp 4 --enable-eplb", "needs expert parallelism", "--enable-expert-parallel"),
    (
        replace(EXPERTS, shards=Shards(experts=250, least_block=32)),
        "-tp 4 --enable-expert-parallel --enable-eplb",
        "cannot distribute 250 experts evenly over 4 GPUs",
        "`--eplb-config.num_redundant_experts 2`",
    ),
    (None, "--max-num-seqs 900 --max-num-batched-tokens 512", "`--max-num-seqs` 900 is more than the 512", "512"),
    (None, "--max-num-seqs 10k", "`--max-num-seqs` 10,000 is more than the 8,192 tokens", "`--max-num-seqs 8192`"),
    (None, "--max-num-seqs 8 --max-num-active-seqs 9", "`--max-num-active-seqs` 9 is more than", "lower"),
    (
        GQA,
        "--no-enable-chunked-prefill --max-num-batched-tokens 8192",
        "a batch of 8,192 tokens does not hold the context of 131,072",
        "`--max-num-batched-tokens 131072`",
    ),
    (None, "--max-model-len 1k --long-prefill-token-threshold 2k", "2,000 is more than the context of 1,000", "lower"),
    (GQA, "--max-model-len 200000", "at most 131,072 tokens of context", "`--max-model-len 131072`"),
    (None, "--max-lora-rank 24", "is one of 1, 8, 16, 32, 64", "`--max-lora-rank 32`"),
    (None, "--max-lora-rank 1000", "is one of 1, 8, 16, 32, 64", "`--max-lora-rank 512`"),
    (None, "--enable-lora --max-loras 4 --max-cpu-loras 2", "2 is less than `--max-loras` 4", "`--max-cpu-loras 4`"),
    (
        None,
        "-tp 16 --enable-lora --fully-sharded-loras --max-lora-rank 8",
        "cannot split a rank of 8 over 16 GPUs",
        "leave",
    ),
    (LATENT, "--kv-cache-dtype nvfp4", "its latent attention has no KV cache in `nvfp4`", "`--kv-cache-dtype fp8`"),
    (GEMMA_4, "--max-num-batched-tokens 2048", "a video is up to 2,496 tokens", "`--max-num-batched-tokens 2496`"),
    (None, "-sc.method mtp -sc.num_speculative_tokens 0", "is not more than 0", "1 or more"),
    (
        None,
        "--enable-lora -sc.method ngram -sc.num_speculative_tokens 9",
        "with LoRA, 1,024 requests of 9 speculative tokens exceed a batch of 8,192",
        "`--max-num-batched-tokens 10240`",
    ),
    (TWO_MTP_LAYERS, "-sc.method mtp -sc.num_speculative_tokens 3", "its 2 prediction layers", "a multiple of 2"),
]

ACCEPTED = [
    (GQA, "-tp 16"),  # the key heads are copied
    (EXPERTS, "-tp 8"),  # the blocks are refined to 64
    (STRICT_EXPERTS, "-tp 8 --enable-expert-parallel"),
    (STRICT_EXPERTS, "-tp 4"),
    (GROUPED_EXPERTS, "-tp 2"),
    (GROUPED_EXPERTS, "-tp 8 -ep"),
    (WIDE, "-tp 4"),
    (HYBRID, "-tp 4"),
    (replace(GQA, shards=Shards(experts=None)), "-tp 2 --enable-expert-parallel"),  # not known is not impossible
    (GQA, "-tp 16 -dcp 2"),
    (LATENT, "-tp 8 -dcp 8"),
    (LATENT, "--kv-cache-dtype nvfp4_ds_mla"),
    (GQA, "--kv-cache-dtype nvfp4"),
    (GQA, "--max-model-len 200000 --hf-overrides {}"),
    (GQA, "--max-model-len 131072"),
    (GQA, "--max-model-len auto"),
    (GQA, "--no-enable-chunked-prefill"),  # vLLM enlarges its own batch
    (GQA, "--no-enable-chunked-prefill --max-num-batched-tokens 8192 --max-model-len 8192"),
    (None, "--max-num-batched-tokens 512"),  # vLLM lowers its own number of requests
    (GEMMA_4, "--max-num-batched-tokens 2048 --language-model-only"),
    (GEMMA_4, "--max-num-batched-tokens 2048 --limit-mm-per-prompt.video 0"),
    (TWO_MTP_LAYERS, "-sc.method mtp -sc.num_speculative_tokens 4"),
    (TWO_MTP_LAYERS, "-sc.method mtp -sc.num_speculative_tokens 1"),
    (None, "--enable-lora --max-lora-rank 64 --max-loras 2 --max-cpu-loras 2"),
    (None, "--max-loras 4 --max-cpu-loras 2"),
    (None, "--enable-lora --max-cpu-loras 0"),
    (None, "--enable-lora -sc.method ngram -sc.num_speculative_tokens 7"),
    (None, "-tp 3"),
    (None, "--enable-eplb -ep -tp 2"),
]


def unmet(architecture: Architecture | None, arguments: str) -> list[conditions.Unmet]:
    return list(conditions.certain(architecture, arguments.split(), spaces(1)[0]))


@pytest.mark.parametrize(("architecture", "arguments", "reason", "hint"), REFUSED)
def test_what_vllm_refuses_is_refused_with_the_reason_and_what_to_type(
    architecture: Architecture | None, arguments: str, reason: str, hint: str
) -> None:
    [each] = unmet(architecture, arguments)
    assert reason in each.reason
    assert hint in each.hint


@pytest.mark.parametrize(("architecture", "arguments"), ACCEPTED)
def test_what_vllm_accepts_is_accepted(architecture: Architecture | None, arguments: str) -> None:
    assert unmet(architecture, arguments) == []


@PROPERTY
@given(st.lists(st.text(max_size=12) | st.sampled_from([*" ".join(each[1] for each in REFUSED).split(), "{", "-sc"])))
def test_any_arguments_are_judged(arguments: list[str]) -> None:
    for each in conditions.certain(GQA, arguments):
        assert each.reason
        assert each.hint


@PROPERTY
@given(st.integers(1, 16), st.sampled_from([GQA, HYBRID, EXPERTS, STRICT_EXPERTS, WIDE, GROUPED, LATENT]))
def test_a_size_that_the_hint_names_is_accepted(tensor: int, architecture: Architecture) -> None:
    for each in unmet(architecture, f"-tp {tensor}"):
        if each.hint.startswith("`--tensor-parallel-size` can be"):
            sizes = [word.strip(",") for word in each.hint.partition(" can be ")[2].split() if word != "or"]
            assert sizes
            assert str(tensor) not in sizes
            assert all(not architecture.heads % int(size) and fit.divides(architecture, int(size)) for size in sizes)


# What is read from config.json

QWEN_3_NEXT_FP8: dict[str, Any] = {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "hidden_size": 2048,
    "intermediate_size": 5120,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts": 512,
    "num_hidden_layers": 48,
    "full_attention_interval": 4,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "max_position_embeddings": 262144,
    "quantization_config": {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.gate", "model.layers.0.mlp.shared_expert_gate"],
    },
}


def test_the_numbers_that_parallelism_divides_are_read() -> None:
    assert from_config(QWEN_3_NEXT_FP8).shards == Shards(
        kv_heads=2, linear_heads=(16, 32), experts=512, widths=(512, 4096), least_block=32
    )


def test_a_shared_expert_limits_the_split_of_a_quantised_model() -> None:
    """512 / 8 is half a block: fp8_utils.py refuses it even with expert parallelism."""
    [each] = unmet(from_config(QWEN_3_NEXT_FP8), "-tp 8 --enable-expert-parallel")
    assert "a layer of width 512, split over 8 GPUs" in each.reason
    assert "can be 1, 2 or 4" in each.hint
    assert unmet(from_config(QWEN_3_NEXT_FP8), "-tp 4") == []


def test_a_layer_that_a_checkpoint_may_leave_unquantised_is_not_checked() -> None:
    quantization = QWEN_3_NEXT_FP8["quantization_config"] | {
        "modules_to_not_convert": ["model.layers.0.mlp.shared_expert."]
    }
    assert from_config({**QWEN_3_NEXT_FP8, "quantization_config": quantization}).shards.widths == (4096,)


@pytest.mark.parametrize(
    ("quantization", "group", "expert_group"),
    [
        ({"quant_method": "awq", "group_size": 128}, 128, 0),
        ({"quant_method": "gptq", "group_size": -1}, 0, 0),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"group_size": 32}}}},
            32,
            32,
        ),
    ],
)
def test_the_groups_of_quantised_weights_are_read(quantization: dict[str, Any], group: int, expert_group: int) -> None:
    shards = from_config({**QWEN_3_NEXT_FP8, "quantization_config": quantization}).shards
    assert (shards.group_size, shards.expert_group_size, shards.least_block) == (group, expert_group, 0)


def test_what_is_not_valid_in_a_configuration_is_not_known() -> None:
    broken = {"num_key_value_heads": "8", "num_experts": [8], "quantization_config": "fp8", "num_attention_heads": 8}
    architecture = without_layers(broken)
    assert architecture is not None
    assert architecture.shards == Shards(experts=None)
    assert without_layers({}) is None
    assert without_layers({"num_attention_heads": []}) is None


# The user's own arguments


def make(profile: KnownModel | UnknownModel, *arguments: str, count: int = 1, is_cpu: bool = False) -> Plan:
    return plan.make(profile, Constraints(arguments), spaces(count), pod="dc1", is_cpu=is_cpu)


def test_own_arguments_that_vllm_refuses_end_before_a_download_with_what_to_type() -> None:
    with pytest.raises(BadUsage) as caught:
        make(from_hub(16e9), "-tp", "3", count=4)
    assert str(caught.value) == (
        "vLLM would not start `someone/model-32b` with these arguments: "
        "its 64 attention heads cannot be split over 3 GPUs"
    )
    assert caught.value.hint == "`--tensor-parallel-size` can be 1, 2, 4, 8 or 16"
    assert caught.value.exit_code == 2


def test_own_arguments_for_an_unknown_model_are_judged_by_themselves() -> None:
    assert make(UnknownModel("someone/model"), "-tp", "3", count=4).gpus == (0, 1, 2)
    with pytest.raises(BadUsage, match="`--max-num-seqs` 900 is more than the 512 tokens of a batch"):
        make(UnknownModel("someone/model"), "--max-num-seqs", "900", "--max-num-batched-tokens", "512")


def test_own_arguments_are_judged_on_a_cpu_pod_too() -> None:
    with pytest.raises(BadUsage, match="`--max-lora-rank` is one of"):
        make(from_hub(1e9), "--max-lora-rank", "3", is_cpu=True)


def test_weights_that_cannot_fit_are_refused_and_a_doubtful_estimate_is_only_said() -> None:
    with pytest.raises(BadUsage, match="no memory is left for its KV cache: its weights take 93"):
        make(from_hub(100e9))
    doubtful = make(from_hub(74e9, architecture=replace(DENSE_32B, max_context=2048)))
    [obstacle] = doubtful.obstacles
    assert obstacle.startswith("no memory is left for its KV cache: ")
    assert "--tensor-parallel-size" in obstacle


def test_a_context_that_cannot_fit_is_refused_with_the_one_that_would() -> None:
    with pytest.raises(BadUsage, match="131,072 tokens of context do not fit") as caught:
        make(from_hub(60e9))
    assert "`--max-model-len auto`" in str(caught.value.hint)
    assert make(from_hub(60e9), "--max-model-len", "auto").obstacles == ()


@pytest.mark.parametrize(
    "arguments", [("--cpu-offload-gb", "60"), ("-q", "fp8"), ("--kv-cache-dtype", "int4_per_token_head")]
)
def test_nothing_is_said_about_memory_that_is_divided_in_other_ways(arguments: tuple[str, ...]) -> None:
    made = make(from_hub(100e9), *arguments)
    assert made.obstacles == ()
    assert made.fit is None
    assert "how the memory is divided with these arguments is not estimated" in made.reasons


# Plans of pi


def test_a_configuration_that_vllm_refuses_is_not_used_and_the_refusal_says_why() -> None:
    unchunked = ("--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192", "--max-model-len", "8192")
    profile = catalogued(("H100", 1, unchunked), weights_gb=16)
    assert plan.make(profile, Constraints(), spaces(1), pod="dc1").arguments == unchunked
    with pytest.raises(DoesNotFit) as caught:
        plan.make(profile, Constraints(context=32768), spaces(1), pod="dc1")
    assert "a batch of 8,192 tokens does not hold the context of 32,768" in str(caught.value)
    assert "`--max-num-batched-tokens 32768`" in str(caught.value.hint)
    other = catalogued(("H100", 1, unchunked), ("H100", 2, ("-tp", "2")), weights_gb=16)
    assert plan.make(other, Constraints(context=32768), spaces(2), pod="dc1").gpus == (0, 1)


def test_a_derived_plan_never_splits_what_vllm_cannot_split() -> None:
    profile = from_hub(500e9, "fp8", from_config(QWEN_3_NEXT_FP8))
    with pytest.raises(DoesNotFit) as caught:
        plan.make(profile, Constraints(), spaces(8), pod="dc1")
    assert "but 4x H100 offer 72.2 each, and a layer of width 512, split over 8 GPUs" in str(caught.value)

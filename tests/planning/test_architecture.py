"""How the config.json of the main model families is read, compared with how vLLM reads it."""

from typing import Any

import pytest

from pi_cli.planning.architecture import Architecture, Layers, Widths, from_config
from pi_cli.planning.shards import Shards

DENSE = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 131072}
SMALL = {**DENSE, "hidden_size": 1024, "num_attention_heads": 8, "num_hidden_layers": 2}

QWEN_2_5 = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "max_position_embeddings": 32768,
    "max_window_layers": 70,
    "model_type": "qwen2",
    "num_attention_heads": 40,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
QWEN_3_CODER_FP8 = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "head_dim": 128,
    "hidden_size": 6144,
    "intermediate_size": 8192,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 2560,
    "num_attention_heads": 96,
    "num_experts": 160,
    "num_hidden_layers": 62,
    "num_key_value_heads": 8,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "rope_scaling": None,
    "sliding_window": None,
}
QWEN_3_NEXT = {
    "architectures": ["Qwen3NextForCausalLM"],
    "full_attention_interval": 4,
    "head_dim": 256,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "max_position_embeddings": 262144,
    "model_type": "qwen3_next",
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
}
QWEN_3_5 = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        "head_dim": 256,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 16,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_value_head_dim": 128,
        "mamba_ssm_dtype": "float32",
        "max_position_embeddings": 262144,
        "model_type": "qwen3_5_text",
        "num_attention_heads": 24,
        "num_hidden_layers": 64,
        "num_key_value_heads": 4,
        "rope_parameters": {"mrope_section": [11, 11, 10], "rope_type": "default"},
    },
    "vision_config": {"num_hidden_layers": 27},
}
KIMI_K2 = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "kv_lora_rank": 512,
    "max_position_embeddings": 131072,
    "model_type": "kimi_k2",
    "moe_intermediate_size": 2048,
    "n_routed_experts": 384,
    "num_attention_heads": 64,
    "num_hidden_layers": 61,
    "num_key_value_heads": 64,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "rope_scaling": {"factor": 32.0, "original_max_position_embeddings": 4096, "type": "yarn"},
    "v_head_dim": 128,
}
DEEPSEEK_V3_2 = {
    **KIMI_K2,
    "architectures": ["DeepseekV32ForCausalLM"],
    "index_head_dim": 128,
    "index_topk": 2048,
    "max_position_embeddings": 163840,
    "model_type": "deepseek_v32",
    "num_attention_heads": 128,
}
GPT_OSS = {
    "architectures": ["GptOssForCausalLM"],
    "head_dim": 64,
    "intermediate_size": 2880,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 64,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "quantization_config": {"quant_method": "mxfp4"},
    "rope_scaling": {"factor": 32.0, "rope_type": "yarn"},
    "sliding_window": 128,
}
# As Google publishes it, without the defaults of transformers.
GEMMA_3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
}
GEMMA_4 = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "model_type": "gemma4",
    "text_config": {
        "attention_k_eq_v": True,
        "global_head_dim": 512,
        "head_dim": 256,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10,
        "max_position_embeddings": 262144,
        "model_type": "gemma4_text",
        "num_attention_heads": 32,
        "num_global_key_value_heads": 4,
        "num_hidden_layers": 60,
        "num_key_value_heads": 16,
        "sliding_window": 1024,
        "use_bidirectional_attention": "vision",
    },
}
MISTRAL_7B = {
    "architectures": ["MistralForCausalLM"],
    "hidden_size": 4096,
    "max_position_embeddings": 32768,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "sliding_window": 4096,
}
LLAMA_3_3 = {
    **DENSE,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "rope_scaling": {"factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
}
GLM_4_5_AIR = {
    "architectures": ["Glm4MoeForCausalLM"],
    "head_dim": 128,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
    "model_type": "glm4_moe",
    "moe_intermediate_size": 1408,
    "n_routed_experts": 128,
    "num_attention_heads": 96,
    "num_hidden_layers": 46,
    "num_key_value_heads": 8,
    "num_nextn_predict_layers": 1,
}
NEMOTRON_NANO = {
    "architectures": ["NemotronHForCausalLM"],
    "conv_kernel": 4,
    "head_dim": 128,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "mamba_ssm_cache_dtype": "float32",
    "max_position_embeddings": 262144,
    "model_type": "nemotron_h",
    "moe_intermediate_size": 1856,
    "n_groups": 8,
    "n_routed_experts": 128,
    "num_attention_heads": 32,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
}
MIMO = {
    "architectures": ["MiMoV2FlashForCausalLM"],
    "head_dim": 192,
    "hybrid_layer_pattern": ([0] + [1] * 5) * 8,
    "max_position_embeddings": 262144,
    "model_type": "mimo_v2_flash",
    "num_attention_heads": 64,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window_size": 128,
    "swa_head_dim": 192,
    "swa_num_key_value_heads": 8,
    "swa_v_head_dim": 128,
    "v_head_dim": 128,
}
KIMI_LINEAR = {
    "architectures": ["KimiLinearForCausalLM"],
    "kv_lora_rank": 512,
    "linear_attn_config": {
        "full_attn_layers": [4, 8],
        "head_dim": 128,
        "kda_layers": [1, 2, 3, 5, 6, 7],
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
    "max_position_embeddings": 1048576,
    "model_type": "kimi_linear",
    "num_attention_heads": 32,
    "num_hidden_layers": 8,
    "qk_rope_head_dim": 64,
}
JAMBA = {
    **SMALL,
    "attn_layer_offset": 4,
    "attn_layer_period": 8,
    "mamba_d_conv": 4,
    "mamba_d_state": 16,
    "mamba_expand": 2,
    "model_type": "jamba",
    "num_hidden_layers": 8,
}
STEP = {
    **SMALL,
    "attention_other_setting": {"attention_type": "sliding_attention", "head_dim": 64, "num_attention_groups": 4},
    "layer_types": [
        "full_attention",
        "sliding_attention",
        "full_attention",
    ],  # the last is for multi-token prediction only
    "model_type": "step3p5",
    "num_attention_groups": 8,
    "sliding_window": 512,
}

FAMILIES = [
    pytest.param(QWEN_2_5, (Layers("full", 64, 8, 128),), 32768, id="Qwen2.5: the head size is hidden size / heads"),
    pytest.param(QWEN_3_CODER_FP8, (Layers("full", 62, 8, 128),), 262144, id="Qwen3 MoE"),
    pytest.param(
        QWEN_3_NEXT,
        (Layers("linear", 36, state_bytes=49152 + 1048576), Layers("full", 12, 2, 256)),
        262144,
        id="Qwen3-Next: a 16-bit state",
    ),
    pytest.param(
        QWEN_3_5,
        (Layers("linear", 48, state_bytes=153944064 // 48), Layers("full", 16, 4, 256)),
        262144,
        id="Qwen3.5: a 32-bit state, and the language model in text_config",
    ),
    pytest.param(KIMI_K2, (Layers("mla", 61, head_dim=576),), 131072, id="Kimi K2: latent vectors, scaled by YaRN"),
    pytest.param(
        DEEPSEEK_V3_2,
        (Layers("mla", 61, head_dim=576), Layers("mla", 61, head_dim=132, element_bytes=1)),
        163840,
        id="DeepSeek-V3.2: an indexer in each layer",
    ),
    pytest.param(
        {**DEEPSEEK_V3_2, "index_topk_freq": 4},
        (Layers("mla", 61, head_dim=576), Layers("mla", 16, head_dim=132, element_bytes=1)),
        163840,
        id="an indexer in every fourth layer",
    ),
    pytest.param(
        GPT_OSS,
        (Layers("sliding", 18, 8, 64, window=128), Layers("full", 18, 8, 64)),
        131072,
        id="gpt-oss",
    ),
    pytest.param(
        GEMMA_3_4B,
        (Layers("sliding", 29, 4, 256, window=1024), Layers("full", 5, 4, 256)),
        131072,
        id="Gemma 3: the defaults of transformers; its context is not scaled again",
    ),
    pytest.param(
        GEMMA_4,
        (Layers("sliding", 50, 16, 256, window=1024), Layers("full", 10, 4, 512)),
        262144,
        id="Gemma 4: different heads in full attention",
    ),
    pytest.param(
        MISTRAL_7B,
        (Layers("sliding", 32, 8, 128, window=4096),),
        32768,
        id="Mistral 7B 0.1: sliding windows in all layers",
    ),
    pytest.param({**MISTRAL_7B, "sliding_window": None}, (Layers("full", 32, 8, 128),), 32768, id="Mistral 7B 0.3"),
    pytest.param(LLAMA_3_3, (Layers("full", 80, 8, 128),), 131072, id="Llama 3.3: its context is scaled already"),
    pytest.param(
        GLM_4_5_AIR, (Layers("full", 46, 8, 128),), 131072, id="GLM-4.5: without its multi-token prediction layer"
    ),
    pytest.param(
        NEMOTRON_NANO,
        (Layers("linear", 23, state_bytes=36864 + 2097152, states=3), Layers("full", 6, 2, 128)),
        262144,
        id="Nemotron-H: one letter for each layer",
    ),
    pytest.param(
        MIMO,
        (Layers("full", 8, 4, 192, 128), Layers("sliding", 40, 8, 192, 128, window=128)),
        262144,
        id="MiMo-V2: values smaller than keys",
    ),
    pytest.param(
        KIMI_LINEAR,
        (Layers("linear", 6, state_bytes=73728 + 2097152, states=3), Layers("mla", 2, head_dim=576)),
        1048576,
        id="Kimi Linear: layers are numbered from 1",
    ),
    pytest.param(
        STEP,
        (Layers("full", 1, 8, 128), Layers("sliding", 1, 4, 64, window=512)),
        131072,
        id="Step-3.5: different heads in sliding windows",
    ),
    pytest.param(SMALL, (Layers("full", 2, 8, 128),), 131072, id="as many key heads as heads by default"),
    pytest.param({**SMALL, "num_key_value_heads": 1}, (Layers("full", 2, 1, 128),), 131072, id="one key head"),
    pytest.param(
        {**SMALL, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        (Layers("full", 2, 8, 128),),
        262144,
        id="a context that RoPE scales",
    ),
    pytest.param(
        {**SMALL, "model_type": "llama4_text", "layer_types": ["chunked_attention", "full_attention"]},
        (Layers("full", 2, 8, 128),),
        131072,
        id="Llama 4: all tokens of a chunk are stored",
    ),
    pytest.param(
        {**SMALL, "model_type": "cohere2", "sliding_window": 4096, "num_hidden_layers": 4},
        (Layers("sliding", 3, 8, 128, window=4097), Layers("full", 1, 8, 128)),
        131072,
        id="Cohere: the window excludes the current token",
    ),
    pytest.param(
        JAMBA,
        (Layers("linear", 7, state_bytes=2048 * (3 + 16) * 2), Layers("full", 1, 8, 128)),
        131072,
        id="Jamba",
    ),
    pytest.param(
        {**SMALL, "model_type": "lfm2", "conv_L_cache": 3, "conv_dim": 1024, "layer_types": ["conv", "full_attention"]},
        (Layers("linear", 1, state_bytes=1024 * 2 * 2), Layers("full", 1, 8, 128)),
        131072,
        id="LFM2: the state of its convolutions",
    ),
]


@pytest.mark.parametrize(("config", "layers", "max_context"), FAMILIES)
def test_layers_and_context_are_read(config: dict[str, Any], layers: tuple[Layers, ...], max_context: int) -> None:
    architecture = from_config(config)
    assert architecture.layers == layers
    assert architecture.max_context == max_context


def test_the_limits_of_tensor_parallelism_are_read() -> None:
    shards = Shards(kv_heads=8, experts=160, widths=(12288,), least_block=32)
    widths = Widths(hidden=6144, intermediate=8192)
    layers = (Layers("full", 62, 8, 128),)
    expected = Architecture("Qwen3MoeForCausalLM", 96, layers, 262144, 2560, 128, shards, widths)
    assert from_config(QWEN_3_CODER_FP8) == expected
    assert from_config(GPT_OSS).expert_size == 2880
    assert from_config(QWEN_2_5).expert_size == 0
    blocks = {"config_groups": {"group_0": {"weights": {"block_structure": [128, 128]}}}}
    assert from_config({**QWEN_2_5, "quantization_config": blocks}).block_size == 128


@pytest.mark.parametrize(
    ("config", "widths"),
    [
        (SMALL, Widths(hidden=1024)),
        ({**QWEN_2_5, "vocab_size": 152064}, Widths(hidden=5120, intermediate=27648, vocabulary=152064)),
        pytest.param(
            {**QWEN_3_CODER_FP8, "num_experts_per_tok": 8, "vocab_size": 151936},
            Widths(hidden=6144, intermediate=8192, vocabulary=151936, experts=8),
            id="experts beside dense layers",
        ),
        pytest.param(
            {**GPT_OSS, "hidden_size": 2880, "experts_per_token": 4, "vocab_size": 201088},
            Widths(hidden=2880, vocabulary=201088, experts=4),
            id="the intermediate size is that of the experts",
        ),
        pytest.param(
            {**GEMMA_3_4B, "vocab_size": 262208},
            Widths(hidden=2560, vocabulary=262208),
            id="the vocabulary is that of the whole model",
        ),
        pytest.param(
            {**SMALL, "num_experts_per_tok": 2, "moe_latent_size": 512}, Widths(hidden=1024), id="without experts"
        ),
        pytest.param(
            {**SMALL, "intermediate_size": [4096, 8192], "vocab_size": 10**400},
            Widths(hidden=1024),
            id="what is not one sensible number counts as not known",
        ),
    ],
)
def test_the_widths_of_a_forward_pass_are_read(config: dict[str, Any], widths: Widths) -> None:
    assert from_config(config).widths == widths


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "it names no architecture"),
        ({**SMALL, "num_attention_heads": None}, "it has no `num_attention_heads`"),
        ({**SMALL, "num_hidden_layers": "two"}, "its `num_hidden_layers` is not a number"),
        ({**SMALL, "max_position_embeddings": None}, "it has no `max_position_embeddings`"),
        ({**SMALL, "num_hidden_layers": 0}, "it has no layers with a KV cache"),
        (
            {**SMALL, "layer_types": ["full_attention", "ring_attention"]},
            "layers of type `ring_attention` are not known",
        ),
        ({**SMALL, "layer_types": ["linear_attention"] * 2}, "the state of its linear layers is not known"),
        ({**SMALL, "model_type": "deepseek_v4"}, "the KV cache of `deepseek_v4` is not known"),
        ({**SMALL, "block_configs": [{}]}, "the KV cache of a model with `block_configs` is not known"),
        ({**SMALL, "kv_lora_rank": 256}, "whether vLLM stores latent vectors for `llama` is not known"),
        ({**QWEN_2_5, "use_sliding_window": True}, "which layers use its sliding window is not known"),
        ({**MIMO, "hybrid_layer_pattern": [0]}, "its config.json is not valid: list index out of range"),
        ({**NEMOTRON_NANO, "mamba_ssm_cache_dtype": "fp4"}, "the state of its linear layers is in `fp4`"),
    ],
)
def test_an_architecture_that_is_not_certain_is_refused_with_the_reason(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{message}$"):
        from_config(config)

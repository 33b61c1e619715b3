"""Tiny models of many kinds of attention, each with the config.json of a real family and weights yet to be drawn.

vLLM builds them for real with `--load-format dummy`, which needs no more than a config.json.
"""

import json
from pathlib import Path
from typing import Any

CONTEXT = 32768
SMALL = {
    "dtype": "bfloat16",
    "hidden_size": 128,
    "intermediate_size": 256,
    "max_position_embeddings": CONTEXT,
    "num_attention_heads": 4,
    "vocab_size": 512,
}
TWO_HEADS = {**SMALL, "num_key_value_heads": 2, "head_dim": 32}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
    "linear_conv_kernel_dim": 4,
}
MIXTURE = {
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 64,
    "norm_topk_prob": True,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "shared_expert_intermediate_size": 64,
}
LATENT = {
    "first_k_dense_replace": 3,
    "kv_lora_rank": 128,
    "moe_intermediate_size": 64,
    "n_group": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 4,
    "q_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "topk_group": 1,
    "v_head_dim": 32,
}

MODELS: dict[str, dict[str, Any]] = {
    "gqa": {
        **TWO_HEADS,
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": 3,
    },
    "mha": {
        **SMALL,
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 2,
    },
    "mla": {
        **SMALL,
        **LATENT,
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "num_hidden_layers": 3,
    },
    "sliding": {
        **TWO_HEADS,
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "num_hidden_layers": 2,
        "sliding_window": 512,
    },
    "sliding and full": {
        **TWO_HEADS,
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 14,
        "sliding_window": 256,
    },
    "sliding and full of other sizes": {
        **TWO_HEADS,
        "architectures": ["Gemma4ForCausalLM"],
        "global_head_dim": 64,
        "hidden_size_per_layer_input": 0,
        "model_type": "gemma4_text",
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 6,
        "num_kv_shared_layers": 0,
        "sliding_window": 256,
        "vocab_size_per_layer_input": 512,
    },
    "delta net and full": {
        **TWO_HEADS,
        **DELTA_NET,
        **MIXTURE,
        "architectures": ["Qwen3NextForCausalLM"],
        "model_type": "qwen3_next",
        "num_hidden_layers": 8,
    },
    "Mamba 2 and full": {
        **TWO_HEADS,
        "architectures": ["NemotronHForCausalLM"],
        "conv_kernel": 4,
        "hybrid_override_pattern": "M-M-M*-M-M*-M-M-",
        "mamba_head_dim": 32,
        "mamba_num_heads": 8,
        "model_type": "nemotron_h",
        "n_groups": 2,
        "num_hidden_layers": 16,
        "ssm_state_size": 32,
    },
    "Mamba 2 beside full": {
        **TWO_HEADS,
        "architectures": ["FalconH1ForCausalLM"],
        "mamba_d_conv": 4,
        "mamba_d_head": 32,
        "mamba_d_ssm": 256,
        "mamba_d_state": 32,
        "mamba_expand": 2,
        "mamba_n_groups": 1,
        "mamba_n_heads": 8,
        "model_type": "falcon_h1",
        "num_hidden_layers": 3,
    },
    "convolution and full": {
        **SMALL,
        "architectures": ["Lfm2ForCausalLM"],
        "block_ff_dim": 256,
        "conv_L_cache": 3,
        "conv_dim": 128,
        "conv_dim_out": 128,
        "block_dim": 128,
        "full_attn_idxs": [2, 5],
        "model_type": "lfm2",
        "num_hidden_layers": 7,
        "num_key_value_heads": 2,
    },
}


def write(folder: Path) -> None:
    """Write every model into a folder of its name."""
    for name, config in MODELS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))

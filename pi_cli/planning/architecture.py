"""The parts of a model that memory and parallelism depend on, read from its config.json.

What each layer stores follows vLLM 0.32 with the defaults of transformers 5.19: the keys are those that its
`transformers_utils/model_arch_config_convertor.py`, `config/model.py` and the models' own files read.
"""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from pi_cli.planning import shards
from pi_cli.planning.shards import Shards

Kind = Literal["full", "sliding", "mla", "linear"]


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers of one kind of attention, and what each of them stores in the KV cache.

    `full` and `sliding` store a key of `head_dim` and a value of `head_dim_v` elements (the same if 0) for each of
    `kv_heads` heads and every token, `sliding` for the last `window` tokens only. `mla` stores one latent vector of
    `head_dim` elements (kv_lora_rank + qk_rope_head_dim) for every token, complete on every GPU. `linear` (e.g. Mamba
    and gated delta nets) stores `state_bytes` for every request of any length, on one GPU without parallelism; vLLM
    stores `states` of them at once, for prefix caching. `element_bytes` is set where the size of an element does not
    depend on the type of the KV cache.
    """

    kind: Kind
    count: int
    kv_heads: int = 0
    head_dim: int = 0
    head_dim_v: int = 0
    window: int = 0
    state_bytes: int = 0
    states: int = 2
    element_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Widths:
    """How much a model computes for each token, which decides the memory of a forward pass; 0: not known.

    `hidden` is its hidden size, `intermediate` that of its layers without experts, `vocabulary` the tokens that it
    knows, `experts` how many of them a token goes to, `latent` what the experts get instead of the hidden state.
    """

    hidden: int = 0
    intermediate: int = 0
    vocabulary: int = 0
    experts: int = 0
    latent: int = 0


UNKNOWN_WIDTHS = Widths()


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model's architecture: `name` is its class in vLLM, `heads` the number of query heads.

    Without `layers`, it is not known what the model stores in the KV cache. `max_context` is in tokens, 0 if it is not
    known. `expert_size` is the intermediate size of one expert (0: the model has none), and `block_size` the edge of
    the blocks in which its weights are quantised (0: they are not): both limit how far tensor parallelism can split
    them, as do `shards`.
    """

    name: str
    heads: int
    layers: tuple[Layers, ...]
    max_context: int
    expert_size: int = 0
    block_size: int = 0
    shards: Shards = shards.UNKNOWN
    widths: Widths = UNKNOWN_WIDTHS

    @property
    def has_linear_layers(self) -> bool:
        return any(layers.kind == "linear" for layers in self.layers)

    @property
    def has_encoder(self) -> bool:
        """Return whether vLLM profiles an encoder of images, video or sound too, by the names of its classes."""
        return self.name.endswith("ForConditionalGeneration")


# The defaults of transformers for families whose published config.json leaves these keys out.
GEMMA_3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072}
GEMMA_4 = {**GEMMA_3, "sliding_window": 512, "sliding_window_pattern": 6, "global_head_dim": 512}
NO_WINDOW = {"use_sliding_window": False}
DEFAULTS: dict[str, dict[str, Any]] = {
    "cohere2": {"sliding_window_pattern": 4},
    "gemma": {"head_dim": 256},
    "gemma2": {"head_dim": 256, "sliding_window_pattern": 2},
    "gemma3_text": {**GEMMA_3, "sliding_window_pattern": 6},
    "gemma3n_text": {**GEMMA_3, "num_key_value_heads": 2, "max_position_embeddings": 32768},
    "gemma4_text": GEMMA_4,
    "gemma4_unified_text": GEMMA_4,
    "gpt_oss": {"head_dim": 64, "sliding_window": 128, "sliding_window_pattern": 2},
    "mistral": {"sliding_window": 4096, "num_key_value_heads": 8},
    "qwen2": NO_WINDOW,
    "qwen2_moe": NO_WINDOW,
    "qwen3": {**NO_WINDOW, "head_dim": 128},
    "qwen3_5_moe_text": {"head_dim": 256, "full_attention_interval": 4},
    "qwen3_5_text": {"head_dim": 256, "full_attention_interval": 4},
    "qwen3_moe": NO_WINDOW,
    "qwen3_next": {"head_dim": 256, "full_attention_interval": 4},
}

# The model types for which vLLM stores one latent vector per token; the first ones also have an indexer.
INDEXED_TYPES = frozenset({"deepseek_v32", "glm_moe_dsa"})
LATENT_TYPES = INDEXED_TYPES | frozenset(
    {"deepseek_v2", "deepseek_v3", "glm4_moe_lite", "kimi_k2", "kimi_linear", "pangu_ultra_moe"}
)

# KV caches that are not described here: no answer is better than a wrong one.
UNKNOWN_TYPES = (
    *("bailing_hybrid", "deepseek_v4", "deepseek_v41", "dots3_note", "falcon_mamba", "glm5_next", "glm5_next_text"),
    *("hy_v4", "inkling", "iquest_loopcoder", "kimi_k3", "longcat_flash", "mamba", "mamba2", "minimax_m3"),
    *("minimax_m3_text", "muse_glimmer", "muse_glimmer_text", "qwen4_exp", "qwen4_exp_text", "zamba2"),
)
UNKNOWN_KEYS = (
    *("attn_config", "block_configs", "compress_ratios", "dual_chunk_attention_config", "interleaved_sliding_window"),
    *("is_encoder_decoder", "rswa_window", "sliding_windows"),
)

# `chunked_attention` (Llama 4) stores all tokens: vLLM disables its windows (config/vllm.py).
LAYER_KINDS: dict[str, tuple[Literal["full", "sliding", "linear"], ...]] = {
    "attention": ("full",),
    "full_attention": ("full",),
    "chunked_attention": ("full",),
    "indexed_attention": ("full",),
    "deepseek_sparse_attention": ("full",),
    "sliding_attention": ("sliding",),
    "linear_attention": ("linear",),
    "mamba": ("linear",),
    "conv": ("linear",),
    "both": ("full", "linear"),
    "moe": (),
    "mlp": (),
}
PATTERN_TYPES = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}  # Nemotron-H: one letter per layer

STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}
CONVOLUTION_BYTES = 2  # the model's type; vLLM serves float32 weights in 16 bits too
# States stored at once with prefix caching: one more where prefill adds a checkpoint (mamba_mixer2.py, kimi_k3/).
STATES, STATES_WITH_CHECKPOINT = 2, 3

# For these kinds of RoPE, max_position_embeddings is the scaled length already (config/model.py).
PRESCALED_ROPES = frozenset({"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"})
LENGTH_KEYS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
    *("max_target_positions", "max_sequence_length", "max_seq_length", "seq_len"),
)
NESTED_KEYS = ("text_config", "llm_config", "language_config", "thinker_config")
EXPERTS_PER_TOKEN_KEYS = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"),
    *("moe_topk", "moe_top_k", "moe_k"),
)

LARGEST_WIDTH = 10_000_000  # far above all models: a larger number is an error


def from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a Hugging Face config.json.

    Raises ValueError, saying what is missing or unknown, where it is not certain what vLLM would store. `max_context`
    is the longest that vLLM accepts without being forced to; a shorter `model_max_length` in the tokenizer's own
    configuration is not considered.
    """
    try:
        text = _text_config(config)
        _refuse_unknown(config, text)
        layers = _layers(text)
        if not layers:
            raise ValueError("it has no layers with a KV cache")
        return replace(_without_layers(config, text), layers=layers, max_context=_max_context(text))
    except (AttributeError, IndexError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"its config.json is not valid: {error}") from error


def without_layers(config: Mapping[str, Any]) -> Architecture | None:
    """Read how a model can be split whose KV cache is not known; None if its heads are not known either."""
    text, known = {}, None
    with suppress(AttributeError, TypeError, ValueError):
        text = _text_config(config)
        known = _without_layers(config, text)
    with suppress(AttributeError, TypeError, ValueError):
        return known and replace(known, max_context=_max_context(text))
    return known


def _without_layers(config: Mapping[str, Any], text: Mapping[str, Any]) -> Architecture:
    names = config.get("architectures")
    quantization = config.get("quantization_config") or text.get("quantization_config")
    return Architecture(
        name=str(names[0]) if isinstance(names, list) and names else "",
        heads=_number(text, "num_attention_heads"),
        layers=(),
        max_context=0,
        expert_size=shards.expert_size(text),
        block_size=shards.block_size(quantization),
        shards=shards.read(text, quantization),
        widths=_widths(text, config),
    )


def _text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the language model, with defaults and without nulls."""
    for key in NESTED_KEYS:
        if isinstance(config.get(key), Mapping):
            return _text_config(config[key])
    settings = {**DEFAULTS.get(str(config.get("model_type")), {}), **config}
    return {key: value for key, value in settings.items() if value is not None}


def _refuse_unknown(config: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    names = config.get("architectures")
    if not (isinstance(names, list) and names and isinstance(names[0], str)):
        raise ValueError("it names no architecture")
    kind = str(text.get("model_type", ""))
    if kind in UNKNOWN_TYPES:
        raise ValueError(f"the KV cache of `{kind}` is not known")
    if unknown := [key for key in UNKNOWN_KEYS if text.get(key)]:
        raise ValueError(f"the KV cache of a model with `{unknown[0]}` is not known")
    if text.get("use_sliding_window"):
        raise ValueError("which layers use its sliding window is not known")
    if text.get("use_bidirectional_attention") in (True, "all"):
        raise ValueError("it is not a model that generates text")
    if "kv_lora_rank" in text and kind not in LATENT_TYPES:
        raise ValueError(f"whether vLLM stores latent vectors for `{kind}` is not known")


def _number(text: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    """Return the first of these numbers that is set; a list of equal numbers counts as one."""
    for name in names:
        if (value := text.get(name)) is None:
            continue
        if isinstance(value, list) and value and len(set(map(str, value))) == 1:
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"its `{name}` is not a number")
        return value
    if default is None:
        raise ValueError(f"it has no `{names[0]}`")
    return default


def _is_family(text: Mapping[str, Any], family: str) -> bool:
    return str(text.get("model_type")).startswith(family)


def _layers(text: Mapping[str, Any]) -> tuple[Layers, ...]:
    """Count the layers that store the same, in order of appearance."""
    counts: Counter[Layers] = Counter()
    for type in _layer_types(text):
        if type not in LAYER_KINDS:
            raise ValueError(f"layers of type `{type}` are not known")
        counts.update(_layer(text, kind) for kind in LAYER_KINDS[type])
    layers = [replace(layer, count=count) for layer, count in counts.items()]
    if text.get("model_type") in INDEXED_TYPES:
        layers.append(Layers("mla", _indexers(text), head_dim=_index_bytes(text), element_bytes=1))
    return tuple(layers)


def _layer_types(text: Mapping[str, Any]) -> list[str]:
    """Return the type of each layer with its own cache, whichever of the many keys for it are used."""
    count = _number(text, "num_hidden_layers", default=0)
    if isinstance(pattern := text.get("hybrid_override_pattern"), str):
        return [PATTERN_TYPES.get(letter, letter) for letter in pattern]
    listed = text.get("layer_types", text.get("layers_block_type"))
    if isinstance(listed, list):
        types = [str(type) for type in listed[: count or None]]
    else:
        count = _number(text, "num_hidden_layers")
        types = [_layer_type(text, layer) for layer in range(count)]
    if _is_family(text, "gemma4"):
        types[-1:] = ["full_attention"]
    return types[: len(types) - _number(text, "num_kv_shared_layers", default=0)]


def _layer_type(text: Mapping[str, Any], layer: int) -> str:
    """Return the type of one layer of a model that does not list them."""
    if _is_family(text, "falcon_h1"):
        return "both"
    if isinstance(pattern := text.get("hybrid_layer_pattern"), list):
        return "sliding_attention" if pattern[layer] else "full_attention"
    if isinstance(linear := text.get("linear_attn_config"), Mapping):
        return "linear_attention" if layer + 1 in linear.get("kda_layers", ()) else "full_attention"
    if isinstance(full := text.get("full_attn_idxs"), list):
        return "full_attention" if layer in full else "conv"
    if interval := _number(text, "full_attention_interval", default=0):
        return "linear_attention" if (layer + 1) % interval else "full_attention"
    if period := _number(text, "attn_layer_period", default=0):
        return "attention" if layer % period == _number(text, "attn_layer_offset") else "mamba"
    if text.get("use_sliding_window") is False or not text.get("sliding_window"):
        return "full_attention"
    pattern = text.get("sliding_window_pattern", 0)
    every = len(pattern) if isinstance(pattern, str) else _number(text, "sliding_window_pattern", default=0)
    return "full_attention" if every and (layer + 1) % every == 0 else "sliding_attention"


def _layer(text: Mapping[str, Any], kind: Literal["full", "sliding", "linear"]) -> Layers:
    if kind == "linear":
        return _linear(text)
    if "kv_lora_rank" in text:
        return Layers("mla", 1, head_dim=_number(text, "kv_lora_rank") + _number(text, "qk_rope_head_dim"))
    if kind == "sliding":
        return _sliding(text)
    layer = _attention(text)
    if not _is_family(text, "gemma4"):
        return layer
    kv_heads = layer.kv_heads
    if text.get("attention_k_eq_v", True):
        kv_heads = _number(text, "num_global_key_value_heads", default=kv_heads)
    return replace(layer, kv_heads=kv_heads, head_dim=_number(text, "global_head_dim"))


def _attention(text: Mapping[str, Any]) -> Layers:
    heads = _number(text, "num_attention_heads")
    kv_heads = _number(text, "num_key_value_heads", "num_kv_heads", "num_attention_groups", default=heads)
    head_dim = _number(text, "head_dim", default=0) or _number(text, "hidden_size") // heads
    return Layers("full", 1, kv_heads, head_dim, _number(text, "v_head_dim", default=0))


def _sliding(text: Mapping[str, Any]) -> Layers:
    """Describe a layer with a sliding window; its heads may differ from full attention (MiMo-V2, Step-3.5)."""
    full = _attention(text)
    other = text.get("attention_other_setting")
    own = {**text, **(other if isinstance(other, Mapping) else {})}
    return replace(
        full,
        kind="sliding",
        kv_heads=_number(own, "swa_num_key_value_heads", "num_attention_groups", default=full.kv_heads),
        head_dim=_number(own, "swa_head_dim", "head_dim", default=full.head_dim),
        head_dim_v=_number(own, "swa_v_head_dim", "v_head_dim", default=0),
        # Cohere's windows do not include the current token (commandr.py).
        window=_number(text, "sliding_window", "sliding_window_size") + _is_family(text, "cohere2"),
    )


def _linear(text: Mapping[str, Any]) -> Layers:
    """Compute the state of a linear layer; the shapes are in model_executor/layers/mamba/mamba_utils.py."""
    if "linear_num_value_heads" in text:
        return Layers("linear", 1, state_bytes=_delta_net_bytes(text), states=STATES)
    if isinstance(kimi := text.get("linear_attn_config"), Mapping):
        heads, dim = _number(kimi, "num_heads"), _number(kimi, "head_dim")
        convolution = 3 * heads * dim * (_number(kimi, "short_conv_kernel_size") - 1) * CONVOLUTION_BYTES
        state = convolution + heads * dim * dim * STATE_BYTES["float32"]
        return Layers("linear", 1, state_bytes=state, states=STATES_WITH_CHECKPOINT)
    if "conv_L_cache" in text:
        width = _number(text, "conv_dim", "hidden_size")
        return Layers("linear", 1, state_bytes=width * (_number(text, "conv_L_cache") - 1) * CONVOLUTION_BYTES)
    if "mamba_n_heads" in text or "mamba_num_heads" in text:
        return Layers("linear", 1, state_bytes=_mamba2_bytes(text), states=STATES_WITH_CHECKPOINT)
    if "mamba_d_state" in text:
        width = _number(text, "mamba_expand") * _number(text, "hidden_size")
        depth = _number(text, "mamba_d_conv") - 1 + _number(text, "mamba_d_state")
        return Layers("linear", 1, state_bytes=width * depth * CONVOLUTION_BYTES, states=STATES)
    raise ValueError("the state of its linear layers is not known")


def _delta_net_bytes(text: Mapping[str, Any]) -> int:
    keys = _number(text, "linear_num_key_heads") * _number(text, "linear_key_head_dim")
    values = _number(text, "linear_num_value_heads") * _number(text, "linear_value_head_dim")
    convolution = (2 * keys + values) * (_number(text, "linear_conv_kernel_dim") - 1)
    state = values * _number(text, "linear_key_head_dim")
    type = text.get("mamba_ssm_dtype", "auto") if _is_family(text, "qwen3_5") else "auto"  # models/config.py
    return convolution * CONVOLUTION_BYTES + state * _state_bytes(type)


def _mamba2_bytes(text: Mapping[str, Any]) -> int:
    """Compute a Mamba 2 state. Nemotron-H has its own keys, and stores float32 by default (models/config.py)."""
    heads, dim = _number(text, "mamba_num_heads", "mamba_n_heads"), _number(text, "mamba_head_dim", "mamba_d_head")
    states = _number(text, "ssm_state_size", "mamba_d_state")
    groups = _number(text, "n_groups", "mamba_n_groups")
    kernel = _number(text, "conv_kernel", "mamba_d_conv")
    convolution = (heads * dim + 2 * groups * states) * (kernel - 1)
    type = text.get("mamba_ssm_cache_dtype", "float32") if "mamba_num_heads" in text else "auto"
    return convolution * CONVOLUTION_BYTES + heads * dim * states * _state_bytes(type)


def _state_bytes(type: object) -> int:
    if type not in STATE_BYTES:
        raise ValueError(f"the state of its linear layers is in `{type}`")
    return STATE_BYTES[str(type)]


def _indexers(text: Mapping[str, Any]) -> int:
    """Count the layers with their own indexer; the others reuse its choice (models/deepseek_v32/)."""
    count = _number(text, "num_hidden_layers")
    if pattern := text.get("index_topk_pattern"):
        return sum(letter != "S" for letter in (list(pattern) + [""] * count)[:count])
    every = _number(text, "index_topk_freq", default=1)
    offset = _number(text, "index_skip_topk_offset", default=2)
    return sum(max(layer - offset + 1, 0) % every == 0 for layer in range(count))


def _index_bytes(text: Mapping[str, Any]) -> int:
    """Return the bytes per token of an indexer: one FP8 number per element, a float32 scale for every 128 of them."""
    return _number(text, "index_head_dim") + _number(text, "index_head_dim") // 128 * 4


def _max_context(text: Mapping[str, Any]) -> int:
    lengths = [_number(text, name) for name in LENGTH_KEYS if name in text]
    longest = _number(text, "model_max_length", default=0) or min(lengths, default=inf)
    if longest == inf:
        raise ValueError(f"it has no `{LENGTH_KEYS[0]}`")
    factor = 1.0
    for rope in _ropes(text):
        if rope.get("rope_type", rope.get("type")) not in PRESCALED_ROPES and not _is_family(text, "gemma3"):
            factor = float(rope.get("factor") or factor)
    return int(longest * factor)


def _ropes(text: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the RoPE settings, one for each type of layer if they differ."""
    settings = text.get("rope_parameters", text.get("rope_scaling"))
    if not isinstance(settings, Mapping):
        return []
    nested = [setting for setting in settings.values() if isinstance(setting, Mapping)]
    return nested or [settings]


def _widths(text: Mapping[str, Any], config: Mapping[str, Any]) -> Widths:
    """Read what a forward pass depends on; what is not there, or is not one number, counts as not known."""
    experts = _width(text, *EXPERTS_PER_TOKEN_KEYS) if shards.expert_size(text) else 0
    # Where experts have no size of their own, `intermediate_size` is theirs, and no layer is without experts.
    has_dense_layers = not experts or "moe_intermediate_size" in text
    return Widths(
        hidden=_width(text, "hidden_size", "n_embd", "d_model"),
        intermediate=_width(text, "intermediate_size", "ffn_hidden_size") if has_dense_layers else 0,
        vocabulary=_width(text, "vocab_size") or _width(config, "vocab_size"),
        experts=experts,
        latent=_width(text, "moe_latent_size") if experts else 0,
    )


def _width(text: Mapping[str, Any], *names: str) -> int:
    try:
        width = _number(text, *names, default=0)
    except ValueError:
        return 0
    return width if width <= LARGEST_WIDTH else 0

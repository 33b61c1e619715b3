"""The numbers of a model that parallelism has to divide, read from its config.json.

They are those that vLLM 0.32 checks when it builds the model: heads (model_executor/models/, layers/mamba/), experts
(layers/fused_moe/layer.py), and the blocks and groups in which quantised weights share a scale
(layers/quantization/utils/fp8_utils.py, marlin_utils.py, compressed_tensors/).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

EXPERT_COUNT_KEYS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
MTP_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")

# vLLM divides the blocks of these checkpoints' experts where tensor parallelism would cut them, down to this edge
# (`refine_fp8_moe_block_shape`, fused_moe/oracle/fp8.py). It does not for other methods.
REFINABLE_METHODS, LEAST_BLOCK = ("fp8",), 32
GROUPED_METHODS = ("awq", "gptq", "compressed-tensors")
STRICT_METHODS = ("compressed-tensors",)  # GPTQ and AWQ get smaller groups for experts (moe_wna16.py)

# The largest item of Gemma 4: 32 frames, each of up to 70 tokens and 8 around it (models/gemma4_mm.py). With this kind
# of attention, vLLM needs a whole item in one batch (platforms/cuda.py, v1/core/encoder_cache_manager.py).
GEMMA_4_VIDEO = 32 * (70 + 8)

# Parts of the names of layers that a checkpoint leaves unquantised: with one of them, the width is not checked.
MLP_NAMES = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
SHARED_NAMES = ("shared_expert.", "shared_experts", *MLP_NAMES)
ATTENTION_NAMES = ("self_attn", "attention", "q_proj", "qkv", "o_proj")


@dataclass(frozen=True, slots=True)
class Shards:
    """What is split over GPUs beside the query heads and each expert's width. 0, None and empty: not known.

    `kv_heads` are divided or copied. `linear_heads` are the numbers of heads in linear layers, each of which must be
    divided. `experts` is how many a layer has, `mtp_layers` how many layers predict further tokens. `widths` are of
    layers whose weights are quantised, in elements. `group_size` is how many inputs share a scale, `expert_group_size`
    the same for experts where vLLM cannot use smaller groups, `least_block` the smallest edge to which it can reduce
    the blocks of experts. `item_tokens` is the largest image, audio or video, if a batch must hold it whole.
    """

    kv_heads: int = 0
    linear_heads: tuple[int, ...] = ()
    experts: int | None = None
    mtp_layers: int | None = None
    widths: tuple[int, ...] = ()
    group_size: int = 0
    expert_group_size: int = 0
    least_block: int = 0
    item_tokens: int = 0


UNKNOWN = Shards()


def read(text: Mapping[str, Any], quantization: object) -> Shards:
    """Read them from the settings of the language model and of its quantisation. What is not valid is not known."""
    settings = quantization if isinstance(quantization, Mapping) else {}
    method = str(settings.get("quant_method") or "").lower()
    experts = max(_count(text, key) for key in EXPERT_COUNT_KEYS)
    groups = group_size(settings) if method in GROUPED_METHODS else 0
    mtp_layers = [_count(text, key) for key in MTP_KEYS if key in text]
    return Shards(
        kv_heads=_count(text, "num_key_value_heads"),
        linear_heads=tuple(_linear_heads(text)),
        experts=None if not experts and _may_have_experts(text) else experts,
        mtp_layers=mtp_layers[0] if mtp_layers else None,
        widths=tuple(_widths(text, settings, experts)) if settings else (),
        group_size=groups,
        expert_group_size=groups if method in STRICT_METHODS else 0,
        item_tokens=GEMMA_4_VIDEO if text.get("use_bidirectional_attention") == "vision" else 0,
        least_block=LEAST_BLOCK if method in REFINABLE_METHODS else 0,
    )


def expert_size(text: Mapping[str, Any]) -> int:
    """Return the intermediate size of one expert; 0 for a model without experts."""
    if not any(_count(text, key) for key in EXPERT_COUNT_KEYS):
        return 0
    return _count(text, "moe_intermediate_size") or _count(text, "intermediate_size")


def block_size(quantization: object) -> int:
    """Return the edge of the blocks that share a scale, by the keys of FP8 checkpoints and compressed-tensors."""
    if not isinstance(quantization, Mapping):
        return 0
    sizes = [quantization.get("weight_block_size"), *(each.get("block_structure") for each in _weights(quantization))]
    return max((max(map(int, size)) for size in sizes if size), default=0)


def group_size(quantization: Mapping[str, Any]) -> int:
    """Return how many inputs of a layer share a scale, by the keys of GPTQ, AWQ and compressed-tensors."""
    sizes = [_count(quantization, "group_size"), *(_count(each, "group_size") for each in _weights(quantization))]
    return max(sizes)


def _weights(quantization: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = quantization.get("config_groups")
    groups = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = [group.get("weights") for group in groups if isinstance(group, Mapping)]
    return [each for each in weights if isinstance(each, Mapping)]


def _count(settings: Mapping[str, Any], key: str) -> int:
    value = settings.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _may_have_experts(text: Mapping[str, Any]) -> bool:
    """Return whether a configuration counts experts in a way that is not read here."""
    return "block_configs" in text or any(text.get(key) for key in EXPERT_COUNT_KEYS)


def _linear_heads(text: Mapping[str, Any]) -> Iterator[int]:
    """Yield the heads that gated delta nets, Mamba 2 and Kimi's layers divide; Mamba copies its groups if it must."""
    for key in ("linear_num_key_heads", "linear_num_value_heads", "mamba_num_heads", "mamba_n_heads"):
        if heads := _count(text, key):
            yield heads
    kimi = text.get("linear_attn_config")
    if isinstance(kimi, Mapping) and (heads := _count(kimi, "num_heads")):
        yield heads


def _widths(text: Mapping[str, Any], quantization: Mapping[str, Any], experts: int) -> Iterator[int]:
    """Yield the widths of quantised layers beside the experts. A layer that may be unquantised is left out."""
    unquantised = " ".join(
        str(name)
        for key in ("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules")
        for name in (quantization.get(key) or ())
    )

    def is_quantised(names: Iterable[str]) -> bool:
        return not any(name in unquantised for name in names)

    if is_quantised(MLP_NAMES) and (not experts or _count(text, "first_k_dense_replace")):
        yield from filter(None, [_count(text, "intermediate_size")])
    if experts and is_quantised(SHARED_NAMES):
        shared = _count(text, "n_shared_experts") * _count(text, "moe_intermediate_size")
        yield from filter(None, [_count(text, "shared_expert_intermediate_size") or shared])
    if is_quantised(ATTENTION_NAMES) and "kv_lora_rank" not in text:
        yield from filter(None, [_count(text, "num_attention_heads") * _count(text, "head_dim")])

"""What the published recipes may bring into a vLLM command: options and variables that tune vLLM, and their values.

The recipes come over the network and are not reviewed by us. So they may bring what is listed here and no more: nothing
that makes vLLM run code, read or write files, open a port, load another model, or weaken a check. An option that is not
listed refuses the recipe, so a new one of vLLM cannot come in before we have looked at it. SECURITY.md says this to
users; `tests/planning/test_recipe_arguments.py` compares the lists with the options of the vLLM that pi knows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pi_cli.vllm import vllm_arguments

MAX_ARGUMENTS = 120
MAX_LENGTH = 1000  # characters of one argument
MAX_DEPTH = 3  # of a JSON value

# Left out of a recipe's command, and said: without them vLLM serves the same model, with fewer permissions or slower.
LEFT_OUT = {
    "--trust-remote-code": "it runs code from the model's repository on the pod",
    "--allowed-local-media-path": "it opens files of the pod to requests",
    "--served-model-name": "the name is the one given with `--name`",
    "--load-format fastsafetensors": "it needs a package that vLLM does not bring",
    "VLLM_USE_RUST_FRONTEND": "its server may not run the guard that checks keys",
}

FLAGS = {
    "--async-scheduling", "--disable-cascade-attn", "--disable-chunked-mm-input", "--disable-custom-all-reduce",
    "--disable-hybrid-kv-cache-manager", "--enable-auto-tool-choice", "--enable-chunked-prefill", "--enable-eplb",
    "--enable-expert-parallel", "--enable-flashinfer-autotune", "--enable-mamba-cache-stochastic-rounding",
    "--enable-prefix-caching", "--enforce-eager", "--language-model-only", "--no-async-scheduling",
    "--no-enable-chunked-prefill", "--no-enable-flashinfer-autotune", "--no-enable-prefix-caching",
    "--skip-mm-profiling",
}  # fmt: skip
# Options with one word or number: a name that vLLM looks up in a list of its own, or a size.
WORDS = {
    "--all2all-backend", "--attention-backend", "--block-size", "--chat-template-content-format", "--config-format",
    "--convert", "--cpu-offload-gb", "--data-parallel-size", "--data-parallel-size-local",
    "--decode-context-parallel-size", "--dtype", "--gdn-prefill-backend", "--gpu-memory-utilization",
    "--kda-decode-backend", "--kda-prefill-backend", "--kv-cache-dtype", "--linear-backend",
    "--long-prefill-token-threshold", "--mamba-backend", "--mamba-block-size", "--mamba-cache-dtype",
    "--mamba-cache-mode", "--mamba-cache-philox-rounds", "--mamba-ssm-cache-dtype", "--mamba-ssu-algorithm",
    "--max-cudagraph-capture-size", "--max-model-len", "--max-num-batched-tokens", "--max-num-seqs",
    "--mm-encoder-attn-backend", "--mm-encoder-tp-mode", "--mm-processor-cache-gb", "--mm-processor-cache-type",
    "--moe-backend", "--optimization-level", "--performance-mode", "--pipeline-parallel-size",
    "--prefill-context-parallel-size", "--quantization", "--reasoning-parser", "--runner",
    "--tensor-parallel-size", "--tokenizer-mode", "--tool-call-parser", "--video-pruning-rate",
}  # fmt: skip
# Options of which some values only load nothing but the model: others read files or need another package.
CHOICES = {
    "--generation-config": {"auto", "vllm"},
    "--load-format": {"auto", "mistral", "safetensors"},
    "--model-impl": {"auto", "vllm"},
}
# Options with a JSON object, and its keys; None: all of them, for options whose keys are arguments of a function of the
# model. Of vLLM 0.32's `vllm/config`, without the keys that are paths, qualified names of functions, or other models'
# settings for loading.
KEYS: dict[str, set[str] | None] = {
    "--attention-config": {
        "backend", "backend_per_kind", "disable_flashinfer_q_quantization", "flash_attn_max_num_splits_for_cuda_graph",
        "flash_attn_version", "indexer_kv_dtype", "indexer_sparse_logits", "minimax_m3_msa_decode_backend",
        "mla_prefill_backend", "sparse_mla_force_mqa", "use_fp4_indexer_cache", "use_non_causal",
        "use_prefill_query_quantization", "use_trtllm_attention",
    },
    "--compilation-config": {
        "cudagraph_capture_sizes", "cudagraph_mode", "custom_ops", "max_cudagraph_capture_size", "mode", "pass_config",
    },
    "--default-chat-template-kwargs": None,
    "--eplb-config": {"log_balancedness", "num_redundant_experts", "step_interval", "use_async", "window_size"},
    "--kernel-config": {"enable_flashinfer_autotune", "enable_jit_warmup", "linear_backend", "moe_backend"},
    "--limit-mm-per-prompt": None,
    "--media-io-kwargs": None,
    "--mm-processor-kwargs": None,
    "--override-generation-config": None,
    "--pooler-config": {"pooling_type", "seq_pooling_type", "tok_pooling_type", "use_activation"},
    "--reasoning-config": {"reasoning_end_str", "reasoning_parser", "reasoning_start_str"},
    "--speculative-config": {
        "attention_backend", "disable_padded_drafter_batch", "draft_sample_method", "draft_tensor_parallel_size",
        "enforce_eager", "index_share_for_mtp_iteration", "kv_cache_dtype", "max_model_len", "method", "model",
        "moe_backend", "num_speculative_tokens", "parallel_drafting", "prompt_lookup_max", "prompt_lookup_min",
        "quantization", "rejection_sample_method", "use_local_argmax_reduction",
    },
    "--structured-outputs-config": {"backend", "disable_any_whitespace", "reasoning_parser"},
}  # fmt: skip
SPECULATIVE_METHOD = re.compile(r"draft_model|eagle3?|dspark|dflash|ngram|suffix|medusa|(?:\w+_)?mtp|mlp_speculator")
DRAFT_MODEL = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)

# Variables that choose kernels and sizes. Others load libraries (`VLLM_NCCL_SO_PATH`, `LD_PRELOAD`) or plugins
# (`VLLM_PLUGINS`), name files, folders or other hubs, hold secrets, open vLLM (`VLLM_SERVER_DEV_MODE`), or replace the
# server with one that may not run pi's guard (`VLLM_USE_RUST_FRONTEND`).
VARIABLES = re.compile(
    r"VLLM_(?:ALL2ALL_BACKEND|ALLREDUCE_USE_\w+|ATTENTION_BACKEND|BLOCKSCALE_\w+|DEEP_GEMM_WARMUP|DISABLE_COMPILE_CACHE"
    r"|ENABLE_(?:CUDAGRAPH_GC|INDUCTOR_\w+)|ENGINE_READY_TIMEOUT_S"
    r"|FLASHINFER_(?:ALLREDUCE_BACKEND|AUTOTUNE_SKIP_OPS|MOE_\w+|WORKSPACE_BUFFER_SIZE)|FLOAT32_MATMUL_PRECISION"
    r"|MARLIN_\w+|MEMORY_PROFILER_\w+|MLA_DISABLE|MOE_(?:SKIP_PADDING|USE_DEEP_GEMM)|TRITON_(?:FORCE_FIRST_CONFIG|USE_TD)"
    r"|USE_(?:BREAKABLE_CUDAGRAPH|DEEP_GEMM\w*|FLASHINFER\w*|FUSED_MOE\w*|NCCL_SYMM_MEM|TRITON\w*|TRTLLM\w*"
    r"|V2_MODEL_RUNNER)|VIDEO_LOADER_BACKEND)"
    r"|FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED|NCCL_(?:CUMEM_ENABLE|MNNVL_ENABLE|NVLS_ENABLE|P2P_DISABLE)"
    r"|OMP_NUM_THREADS|PYTHONNOUSERSITE",
    re.ASCII,
)
WORD = re.compile(r"[A-Za-z][\w-]*|-?\d+(?:\.\d+)?[kKmMgG]?", re.ASCII)
KEY = re.compile(r"[A-Za-z]\w*", re.ASCII)


class NotAllowed(ValueError):
    """A recipe has an argument or a variable that the recipes may not bring; the text says which."""


def check(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the arguments that a recipe may bring, and those that are left out. Raises `NotAllowed` for others."""
    if len(arguments) > MAX_ARGUMENTS:
        raise NotAllowed("it has too many arguments")
    kept: list[str] = []
    left_out: list[str] = []
    for group in vllm_arguments.groups(arguments):
        _check_text(group)
        name = vllm_arguments.name_of(group[0])
        if dropped := next((each for each in (name, " ".join([name, *group[1:]])) if each in LEFT_OUT), None):
            left_out.append(dropped)
            continue
        kept += _checked(name, group)
    if "--tensor-parallel-size" in kept and vllm_arguments.parse(kept).tensor == 1:
        kept = list(vllm_arguments.without(kept, vllm_arguments.TENSOR_PARALLEL))
    return tuple(kept), tuple(dict.fromkeys(left_out))


def check_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a recipe may bring, without those that are left out. Raises `NotAllowed` for others."""
    variables = {name: value for name, value in variables.items() if name not in LEFT_OUT}
    for name, value in variables.items():
        if not VARIABLES.fullmatch(name):
            raise NotAllowed(f"it sets the variable `{name[:60]}`" if KEY.fullmatch(name) else "it sets a variable")
        if not WORD.fullmatch(value) or len(value) > MAX_LENGTH:
            raise NotAllowed(f"it sets `{name}` to a value that is neither a word nor a number")
    return variables


def _check_text(group: Sequence[str]) -> None:
    for argument in group:
        if not argument.isprintable() or len(argument) > MAX_LENGTH:
            raise NotAllowed("an argument is too long, or cannot be printed")
    if not re.fullmatch(r"--[a-z][a-z0-9_.-]*(=.*)?", group[0]):
        raise NotAllowed(f"`{group[0][:60]}` is not an option")


def _checked(name: str, group: Sequence[str]) -> list[str]:
    """Return an option and its value, as two words."""
    _, equals, after = group[0].partition("=")
    values = [*([after] if equals else []), *group[1:]]
    base, _, path = name.partition(".")
    if name in FLAGS and not values:
        return [name]
    if len(values) != 1 or not (name in WORDS or name in CHOICES or base in KEYS):
        raise NotAllowed(f"it needs `{name[:60]}`")
    [value] = values
    if name in WORDS and WORD.fullmatch(value):
        return [name, value]
    if name in CHOICES and value in CHOICES[name]:
        return [name, value]
    if base in KEYS and _is_allowed_in(base, _nested(path.replace("-", "_"), value) if path else _object(value)):
        return [f"{base}.{path.replace('-', '_')}" if path else base, value]
    raise NotAllowed(f"it needs `{name[:60]}` with a value that the recipes may not bring")


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _nested(path: str, text: str) -> Any:
    """Return what vLLM reads a dotted option as: `{"backend": "x"}` for `--attention-config.backend x`."""
    parsed = _object(text)
    value: Any = text if parsed is None else parsed
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def _is_allowed_in(option: str, value: Any) -> bool:
    keys = KEYS[option]
    if not isinstance(value, dict) or not all(keys is None or key in keys for key in value):
        return False
    if option == "--speculative-config":
        value = dict(value)
        method, model = value.pop("method", None), value.pop("model", None)
        if method is not None and not (isinstance(method, str) and SPECULATIVE_METHOD.fullmatch(method)):
            return False
        # Without a method vLLM may take the model for the name of a class, which it imports (`custom_class`).
        if model is not None and not (method and isinstance(model, str) and DRAFT_MODEL.fullmatch(model)):
            return False
    if option == "--reasoning-config":
        return all(isinstance(text, str) and text.isprintable() for text in value.values())
    return _is_plain(value)


def _is_plain(value: Any, depth: int = 0) -> bool:
    """Return whether a JSON value has words, numbers and truth values only: no path, URL or code fits into those."""
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        return value == "" or WORD.fullmatch(value) is not None
    if depth >= MAX_DEPTH or not isinstance(value, dict | list):
        return False
    members = value.values() if isinstance(value, dict) else value
    keys = value if isinstance(value, dict) else ()
    return all(KEY.fullmatch(key) for key in keys) and all(_is_plain(each, depth + 1) for each in members)

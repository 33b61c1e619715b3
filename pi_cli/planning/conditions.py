"""The conditions on which vLLM 0.32 refuses to start, as far as they follow from numbers that pi has.

Each check names the place in vLLM's source. Those of `certain` depend on the model's and the arguments' own numbers
alone; those of `likely` on an estimate of the memory. What vLLM checks without a number that pi knows is left to vLLM.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pi_cli.hints import fill
from pi_cli.planning import fit, sequences, shards, speculation
from pi_cli.planning.architecture import Architecture
from pi_cli.planning.fit import MemoryFit
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.vllm import vllm_arguments
from pi_cli.vllm.vllm_arguments import Options

LONGEST_LIST = 16  # tensor parallel sizes that a hint considers
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # `MaxLoRARanks`, config/lora.py
WITHOUT_ITEMS = ("--language-model-only", "--limit-mm-per-prompt")


@dataclass(frozen=True, slots=True)
class Unmet:
    """A condition that is not met: why vLLM would not start, and what to type instead."""

    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Start:
    """What a check looks at: the arguments, and the model, without name and layers if it is not known.

    `default_batch` and `requests` are the tokens of a batch where the arguments do not say it and how many requests run
    at once, if the GPU is known.
    """

    architecture: Architecture
    arguments: tuple[str, ...]
    options: Options
    default_batch: int | None = None
    requests: int | None = None

    @property
    def expert_tensor(self) -> int:
        """Return over how many GPUs each expert is split: data parallelism splits it too, expert parallelism does not.

        `flatten_tp_across_dp_and_pcp` in fused_moe/config.py.
        """
        return 1 if self.options.is_expert_parallel else self.options.tensor * self.options.data

    def number(self, *names: str) -> int | None:
        return vllm_arguments.number(vllm_arguments.value(self.arguments, names) or "")

    def has(self, *names: str) -> bool:
        return any(vllm_arguments.name_of(argument) in names for argument in self.arguments)


# With one of these, vLLM divides the memory in a way that is not estimated: nothing is said about it then.
DIVIDES_MEMORY = (
    *("--kv-cache-memory-bytes", "--num-gpu-blocks-override", "--cpu-offload-gb", "--offload-backend"),
    *("--offload-group-size", "--quantization", "-q", "--quantization-config", "--load-format", "--hf-overrides"),
    *("--decode-context-parallel-size", "-dcp", "--prefill-context-parallel-size", "-pcp", "--config"),
)
ESTIMATED_TYPES = ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2")  # of the KV cache

NOT_KNOWN = Architecture("", 0, (), 0)


def certain(
    architecture: Architecture | None, arguments: Sequence[str], space: GpuSpace | None = None
) -> tuple[Unmet, ...]:
    """Return the conditions that these arguments break, whatever the memory. `space`: a GPU, if it is known."""
    limits = (sequences.batch(arguments, space), sequences.configured(arguments, space)) if space else (None, None)
    return _certain(architecture or NOT_KNOWN, tuple(arguments), *limits)


def undivided(architecture: Architecture, tensor: int, *, is_expert_parallel: bool = False) -> str | None:
    """Return why a model cannot be split over this many GPUs by tensor parallelism; None if it can."""
    options = Options(tensor=tensor, is_expert_parallel=is_expert_parallel)
    start = _Start(architecture, (), options)
    return next((unmet.reason for check in DIVISIONS if (unmet := check(start))), None)


def likely(memory_fit: MemoryFit, arguments: Sequence[str], space: GpuSpace) -> Iterator[Unmet]:
    """Yield the conditions that these arguments break if the estimate of the memory is right."""
    memory = memory_fit.memory
    if memory.kv_cache <= 0:
        needed = f"its weights take {memory.weights:.1f} GiB of each GPU and running it about {memory.overhead:.1f}"
        yield Unmet(
            f"no memory is left for its KV cache: {needed}",
            "use more GPUs with `--tensor-parallel-size`, or a larger `--gpu-memory-utilization`",
        )
    elif not memory_fit.is_enough:
        yield Unmet(
            f"{memory_fit.context or 0:,} tokens of context do not fit, {memory_fit.longest or 0:,} would",
            fill("give `--max-model-len {value}` or `--max-model-len auto`", value=memory_fit.longest or 0),
        )
    blocks = memory_fit.state_blocks
    if blocks and sequences.has_full_graphs(arguments) and sequences.configured(arguments, space) > blocks:
        requests = sequences.configured(arguments, space)
        yield Unmet(
            f"each of up to {requests:,} requests needs a block of the KV cache, of which there are about {blocks:,}",
            fill("give `--max-num-seqs {value}`", value=sequences.capped(arguments, space, memory_fit) or 1),
        )


def is_estimated(arguments: Sequence[str]) -> bool:
    """Return whether the estimate of the memory is about a start with these arguments."""
    type = vllm_arguments.value(arguments, vllm_arguments.KV_CACHE_TYPE) or "auto"
    names = {vllm_arguments.name_of(argument).partition(".")[0] for argument in arguments}
    return type in ESTIMATED_TYPES and names.isdisjoint(DIVIDES_MEMORY)


@functools.lru_cache(maxsize=4096)  # `pi models` asks about the same few arguments thousands of times
def _certain(
    architecture: Architecture, arguments: tuple[str, ...], default_batch: int | None, requests: int | None
) -> tuple[Unmet, ...]:
    start = _Start(architecture, arguments, vllm_arguments.parse(arguments), default_batch, requests)
    return tuple(unmet for check in (*DIVISIONS, *ARGUMENTS) if (unmet := check(start)))


# What parallelism has to divide


def _heads(start: _Start) -> Unmet | None:
    """`verify_with_parallel_config`, config/model.py; and the models' own assertions on their key heads."""
    tensor, architecture = start.options.tensor, start.architecture
    if architecture.heads % tensor:
        return _other_tensor_size(start, f"its {architecture.heads} attention heads cannot be split over {tensor} GPUs")
    kv_heads = [layers.kv_heads for layers in architecture.layers if layers.kv_heads] or [architecture.shards.kv_heads]
    for count in kv_heads:
        if count and count % tensor and tensor % count:
            reason = f"its {count} key heads can be neither split over {tensor} GPUs nor copied"
            return _other_tensor_size(start, reason)
    for count in architecture.shards.linear_heads:  # layers/mamba/
        if count % tensor:
            reason = f"the {count} heads of its linear layers cannot be split over {tensor} GPUs"
            return _other_tensor_size(start, reason)
    return None


def _experts(start: _Start) -> Unmet | None:
    """The models' own checks, e.g. models/qwen3_moe.py; `_verify_with_expert_parallelism`, config/model.py."""
    experts, tensor = start.architecture.shards.experts, start.options.tensor
    if experts == 0 and start.options.is_expert_parallel:
        return Unmet("it has no experts, which `--enable-expert-parallel` would distribute", "leave the option out")
    if experts and tensor > experts:
        return _other_tensor_size(start, f"its {experts} experts are fewer than {tensor} GPUs")
    return None


def _expert_blocks(start: _Start) -> Unmet | None:
    """`resolve_fp8_moe_weight_block_shape`, fused_moe/oracle/fp8.py; `validate_fp8_block_shape_moe`, fp8_utils.py."""
    architecture, tensor = start.architecture, start.expert_tensor
    size, block = architecture.expert_size, architecture.block_size
    if tensor == 1 or not size or not block or (size % tensor == 0 and size // tensor % block == 0):
        return None
    is_known = architecture.shards != shards.UNKNOWN
    least = (architecture.shards.least_block or block) if is_known else shards.LEAST_BLOCK
    if size % tensor == 0 and math.gcd(block, size // tensor) >= least:
        return None
    return Unmet(
        f"the width {size:,} of its experts, split over {tensor} GPUs, is not a whole number of FP8 blocks of {block}",
        "add `--enable-expert-parallel`, or lower `--tensor-parallel-size`",
    )


def _expert_groups(start: _Start) -> Unmet | None:
    """compressed_tensors_moe_wna16.py; GPTQ and AWQ adapt their groups."""
    size, group = start.architecture.expert_size, start.architecture.shards.expert_group_size
    if start.expert_tensor == 1 or not size or not group or size / start.expert_tensor % group == 0:
        return None
    return Unmet(
        f"the width {size:,} of its experts, split over {start.expert_tensor} GPUs, is not a whole number of "
        f"quantisation groups of {group}",
        "add `--enable-expert-parallel`, or lower `--tensor-parallel-size`",
    )


def _widths(start: _Start) -> Unmet | None:
    """`validate_fp8_block_shape`, fp8_utils.py; `verify_group_size_divides_partition`, distributed/utils.py."""
    tensor, numbers = start.options.tensor, start.architecture.shards
    unit = start.architecture.block_size or numbers.group_size
    for width in numbers.widths:
        if tensor > 1 and unit and width / tensor % unit:
            name = "FP8 blocks" if start.architecture.block_size else "quantisation groups"
            reason = f"a layer of width {width:,}, split over {tensor} GPUs, is not a whole number of {name} of {unit}"
            return _other_tensor_size(start, reason)
    return None


def _stages(start: _Start) -> Unmet | None:
    """`get_pp_indices`, distributed/utils.py, would leave stages without a layer."""
    layers = sum(layers.count for layers in start.architecture.layers)
    if layers and start.options.pipeline > layers:
        reason = f"its {layers} layers cannot be divided among {start.options.pipeline} pipeline stages"
        return Unmet(reason, "lower `--pipeline-parallel-size`")
    return None


def _context_parallel(start: _Start) -> Unmet | None:
    """`verify_with_parallel_config`, config/model.py, and config/parallel.py."""
    size, tensor = start.number("--decode-context-parallel-size", "-dcp") or 1, start.options.tensor
    if size == 1 or start.has("--prefill-context-parallel-size", "-pcp"):
        return None
    hint = "lower `--decode-context-parallel-size`, or leave it out"
    if tensor % size:
        reason = f"`--tensor-parallel-size` {tensor} is not a multiple of the decode context parallel size {size}"
        return Unmet(reason, hint)
    kinds = {layers.kind: layers.kv_heads for layers in start.architecture.layers}
    if "mla" in kinds or not kinds.get("full"):
        return None
    most = max(1, tensor // kinds["full"])
    if size > most or (start.architecture.heads // kinds["full"]) % size:
        reason = f"with {kinds['full']} key heads on {tensor} GPUs, decode context parallelism is at most {most}"
        return Unmet(reason, hint)
    return None


def _balanced_experts(start: _Start) -> Unmet | None:
    """fused_moe/layer.py and config/parallel.py."""
    if not start.has("--enable-eplb"):
        return None
    experts, ranks = start.architecture.shards.experts, start.options.tensor * start.options.data
    if not start.options.is_expert_parallel or ranks == 1:
        return Unmet("`--enable-eplb` needs expert parallelism over several GPUs", "add `--enable-expert-parallel`")
    spare = start.number("--eplb-config.num-redundant-experts") or 0
    if experts and "--eplb-config" not in start.arguments and (experts + spare) % ranks:
        reason = f"`--enable-eplb` cannot distribute {experts + spare} experts evenly over {ranks} GPUs"
        return Unmet(reason, fill("add `--eplb-config.num_redundant_experts {value}`", value=-experts % ranks))
    return None


# What arguments say about each other and about the model


def _batch_holds_requests(start: _Start) -> Unmet | None:
    """`verify_max_model_len`, config/scheduler.py; without `--max-num-seqs`, vLLM lowers its own default."""
    requests = start.number(*vllm_arguments.SEQUENCES)
    batch = start.options.batched_tokens or start.default_batch
    if requests and batch and requests > batch:
        return Unmet(
            f"`--max-num-seqs` {requests:,} is more than the {batch:,} tokens of a batch",
            fill("give `--max-num-seqs {value}`, or a larger `--max-num-batched-tokens`", value=batch),
        )
    active = start.number("--max-num-active-seqs")
    if requests and active and active > requests:
        reason = f"`--max-num-active-seqs` {active:,} is more than `--max-num-seqs` {requests:,}"
        return Unmet(reason, "lower `--max-num-active-seqs`")
    return None


def _batch_holds_context(start: _Start) -> Unmet | None:
    """`verify_max_model_len`, config/scheduler.py."""
    context = start.options.context or start.architecture.max_context
    batch = start.options.batched_tokens
    if start.has("--no-enable-chunked-prefill") and batch and batch < context:
        return Unmet(
            f"without chunked prefill, a batch of {batch:,} tokens does not hold the context of {context:,}",
            fill("give `--max-num-batched-tokens {value}`, or leave out `--no-enable-chunked-prefill`", value=context),
        )
    threshold = start.number("--long-prefill-token-threshold")
    if threshold and context and threshold > context:
        reason = f"`--long-prefill-token-threshold` {threshold:,} is more than the context of {context:,}"
        return Unmet(reason, "lower `--long-prefill-token-threshold`")
    return None


def _context(start: _Start) -> Unmet | None:
    """`_get_and_verify_max_len`, config/model.py. What overrides the model's configuration may allow more."""
    longest, context = start.architecture.max_context, start.options.context
    if not longest or not context or context <= longest or any("--hf-overrides" in each for each in start.arguments):
        return None
    return Unmet(
        f"it supports at most {longest:,} tokens of context, and `--max-model-len` is {context:,}",
        fill("give `--max-model-len {value}`, or extend its context with `--hf-overrides`", value=longest),
    )


def _adapters(start: _Start) -> Unmet | None:
    """config/lora.py; `divide` in lora/layers/."""
    rank, tensor = start.number("--max-lora-rank"), start.options.tensor
    if rank and rank not in LORA_RANKS:
        higher = next((each for each in LORA_RANKS if each >= rank), LORA_RANKS[-1])
        ranks = ", ".join(map(str, LORA_RANKS))
        return Unmet(f"`--max-lora-rank` is one of {ranks}", fill("give `--max-lora-rank {value}`", value=higher))
    if not start.has("--enable-lora"):  # without it, vLLM does not look at the other options
        return None
    most, stored = start.number("--max-loras") or 1, start.number("--max-cpu-loras")
    if stored and stored < most:  # 0 counts as not given
        reason = f"`--max-cpu-loras` {stored} is less than `--max-loras` {most}"
        return Unmet(reason, fill("give `--max-cpu-loras {value}`, or leave it out", value=most))
    if start.has("--fully-sharded-loras") and (rank or 16) % tensor:
        return Unmet(
            f"`--fully-sharded-loras` cannot split a rank of {rank or 16} over {tensor} GPUs", "leave the option out"
        )
    return None


def _kv_cache_type(start: _Start) -> Unmet | None:
    """`validate_nvfp4_kv_cache_with_mla`, config/vllm.py."""
    type = vllm_arguments.value(start.arguments, vllm_arguments.KV_CACHE_TYPE) or ""
    is_latent = any(layers.kind == "mla" for layers in start.architecture.layers)
    if is_latent and type.startswith("nvfp4") and not type.endswith("_ds_mla"):
        return Unmet(f"its latent attention has no KV cache in `{type}`", "give `--kv-cache-dtype fp8`")
    return None


def _items(start: _Start) -> Unmet | None:
    """`compute_mm_encoder_budget`, v1/core/encoder_cache_manager.py; vLLM raises its own default as needed."""
    largest, batch = start.architecture.shards.item_tokens, start.options.batched_tokens
    if not batch or batch >= largest or any(each.startswith(WITHOUT_ITEMS) for each in start.arguments):
        return None
    return Unmet(
        f"a video is up to {largest:,} tokens, more than a batch of {batch:,}",
        fill("give `--max-num-batched-tokens {value}`, or add `--language-model-only`", value=largest),
    )


def _speculation(start: _Start) -> Unmet | None:
    """`__post_init__` and `_verify_args`, config/speculative.py."""
    draft = speculation.parse(start.arguments)
    if draft is None or draft.tokens is None:
        return None
    if draft.tokens <= 0:
        return Unmet("`num_speculative_tokens` is not more than 0", "give 1 or more")
    batch = start.options.batched_tokens or start.default_batch
    requests = start.number(*vllm_arguments.SEQUENCES) or start.requests or 0
    needed = requests * (draft.tokens + 1)
    if start.has("--enable-lora") and batch and batch < needed:  # engine/arg_utils.py
        reason = f"with LoRA, {requests:,} requests of {draft.tokens} speculative tokens exceed a batch of {batch:,}"
        return Unmet(
            reason, fill("give `--max-num-batched-tokens {value}`, or a smaller `--max-num-seqs`", value=needed)
        )
    mtp_layers = start.architecture.shards.mtp_layers
    if draft.is_mtp and mtp_layers and draft.tokens > mtp_layers and draft.tokens % mtp_layers:
        reason = f"its {mtp_layers} prediction layers cannot be used for {draft.tokens} speculative tokens"
        return Unmet(reason, f"give a multiple of {mtp_layers} as `num_speculative_tokens`")
    return None


def _other_tensor_size(start: _Start, reason: str) -> Unmet:
    """Return a refusal whose hint names the tensor parallel sizes that divide the model."""
    *others, largest = map(str, _tensor_sizes(start.architecture))
    return Unmet(reason, f"`--tensor-parallel-size` can be {', '.join(others)}{' or ' if others else ''}{largest}")


@functools.lru_cache(maxsize=256)
def _tensor_sizes(architecture: Architecture) -> tuple[int, ...]:
    return tuple(
        size
        for size in range(1, LONGEST_LIST + 1)
        if not architecture.heads % size
        and not (architecture.layers and not fit.divides(architecture, size))
        and not any(heads % size for heads in architecture.shards.linear_heads)
        and (size == 1 or not _cuts_widths(architecture, size))
    )


def _cuts_widths(architecture: Architecture, tensor: int) -> bool:
    unit = architecture.block_size or architecture.shards.group_size
    return bool(unit) and any(width / tensor % unit for width in architecture.shards.widths)


Check = Callable[[_Start], Unmet | None]
DIVISIONS: tuple[Check, ...] = (_heads, _experts, _expert_blocks, _expert_groups, _widths)
ARGUMENTS: tuple[Check, ...] = (
    *(_stages, _context_parallel, _balanced_experts, _batch_holds_requests, _batch_holds_context, _context),
    *(_adapters, _kv_cache_type, _items, _speculation),
)

"""The checks of vLLM before it loads anything. Each raises `Failed` with vLLM's own error message."""

from pathlib import Path
from typing import NamedTuple

from pi_cli.demo.engine import failures, known, nodes, parsers
from pi_cli.demo.engine.failures import Failed
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.gpus import Allocation, Gpu
from pi_cli.demo.stubs import hf

GIB = 2**30
MIB_PER_GIB = 1024
DERIVED_CONTEXT = 40960  # of the config.json that the simulated `hf` makes up
MAX_CONTEXT = 32 * DERIVED_CONTEXT  # the models' real limits are unknown here, so only absurd values are refused
KV_BYTES_PER_TOKEN = 28 * 2 * 8 * 128 * 2  # layers, K and V, heads, width, bfloat16


class MemoryLayout(NamedTuple):
    """The memory on each GPU: MiB by GPU id as `nvidia-smi` will report it; the rest is in GiB for one GPU."""

    memory: dict[int, int]
    weights: float
    kv_cache: float
    context: int
    known_tokens: int | None = None  # the size of the KV cache, of a model that the catalogue knows

    @property
    def kv_tokens(self) -> int:
        return self.known_tokens or int(self.kv_cache * GIB * len(self.memory) / KV_BYTES_PER_TOKEN)


def arguments(settings: Settings) -> None:
    """Refuse unknown parsers, tools without a parser, and a missing chat template."""
    tools, reasoning = settings.text("tool-call-parser"), settings.text("reasoning-parser")
    if settings.has("enable-auto-tool-choice") and not tools:
        raise Failed(failures.NO_TOOL_PARSER)
    if tools and tools not in parsers.TOOLS and not settings.has("tool-parser-plugin"):
        raise Failed(failures.TOOL_PARSER, name=tools, known=",".join(parsers.TOOLS))
    if reasoning and reasoning not in parsers.REASONING and not settings.has("reasoning-parser-plugin"):
        raise Failed(failures.REASONING_PARSER, name=reasoning, known=", ".join(parsers.REASONING))
    template = settings.text("chat-template")
    if template and "{" not in template and not Path(template).exists():
        raise Failed(failures.CHAT_TEMPLATE, name=template)


def lay_out(settings: Settings, available: list[Gpu]) -> MemoryLayout:
    """Check the model as if from its configuration, and return its memory on the GPUs."""
    owner = settings.model.partition("/")[0]
    for name, failure in (("gated", failures.GATED), ("missing", failures.MISSING_REPO)):
        if owner == name:
            raise Failed(failure, model=settings.model)
    context = settings.number("max-model-len", DERIVED_CONTEXT)
    if context > MAX_CONTEXT:
        raise Failed(failures.KNOWN["context"], context=context, model=settings.model)
    world = settings.number("data-parallel-size-local", settings.number("data-parallel-size", 1))
    for name in ("tensor-parallel-size", "pipeline-parallel-size", "prefill-context-parallel-size"):
        world *= settings.number(name, 1)
    world //= nodes.count(settings)
    if world > len(available):
        raise Failed(failures.TOO_FEW_GPUS, size=world, count=len(available), model=settings.model)
    memory = {gpu.id: int(gpu.memory * settings.utilization) for gpu in available[:world]}
    if division := known.divide(settings, available[:world]):
        return MemoryLayout(memory, division.weights, division.kv_cache, division.context, division.tokens)
    requested = min(memory.values()) / MIB_PER_GIB
    weights = min(hf.weight_bytes(settings.model) / GIB / world, requested * 0.7)  # every model fits
    return MemoryLayout(memory, weights, (requested - weights) * 0.9, DERIVED_CONTEXT if context < 0 else context)


def free_memory(layout: MemoryLayout, cards: list[Gpu], allocations: list[Allocation], utilization: float) -> None:
    """Refuse to start if other processes have allocated the memory that the model needs."""
    for rank, (id, mib) in enumerate(layout.memory.items()):
        total = next(card.memory for card in cards if card.id == id)
        free = total - sum(allocation.memory for allocation in allocations if allocation.gpu == id)
        if free < mib:
            sizes = {"free": free, "total": total, "wanted": mib}
            facts = {name: f"{size / MIB_PER_GIB:.2f}" for name, size in sizes.items()}
            raise Failed(failures.GPU_BUSY, device=f"cuda:{rank}", utilization=utilization, **facts)

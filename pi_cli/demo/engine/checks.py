"""What vLLM checks before it loads anything. Each check raises `Failed` with vLLM's own words."""

from pathlib import Path
from typing import NamedTuple

from pi_cli.demo.engine import failures, parsers
from pi_cli.demo.engine.failures import Failed
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.gpus import Gpu, Hold
from pi_cli.demo.stubs import hf

GIB = 2**30
MIB_PER_GIB = 1024
DERIVED_CONTEXT = 40960  # of the config.json that the simulated `hf` makes up
LONGEST_CONTEXT = 32 * DERIVED_CONTEXT  # we know no model's real limit, so only nonsense is refused
KV_BYTES_PER_TOKEN = 28 * 2 * 8 * 128 * 2  # layers, K and V, heads, width, bfloat16


class Fit(NamedTuple):
    """What goes onto each GPU: MiB by GPU as `nvidia-smi` will see it, the rest in GiB for one of them."""

    memory: dict[int, int]
    weights: float
    kv_cache: float
    context: int

    @property
    def kv_tokens(self) -> int:
        return int(self.kv_cache * GIB * len(self.memory) / KV_BYTES_PER_TOKEN)


def arguments(settings: Settings) -> None:
    """Refuse parsers that do not exist, tools without a parser, and a chat template that is not there."""
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


def fit(settings: Settings, available: list[Gpu]) -> Fit:
    """Read the model's configuration, as it were, and lay it out over the GPUs."""
    owner = settings.model.partition("/")[0]
    for name, failure in (("gated", failures.GATED), ("missing", failures.MISSING_REPO)):
        if owner == name:
            raise Failed(failure, model=settings.model)
    context = settings.number("max-model-len", DERIVED_CONTEXT)
    if context > LONGEST_CONTEXT:
        raise Failed(failures.KNOWN["context"], context=context, model=settings.model)
    world = 1
    for name in ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"):
        world *= settings.number(name, 1)
    if world > len(available):
        raise Failed(failures.TOO_FEW_GPUS, size=world, count=len(available), model=settings.model)
    memory = {gpu.id: int(gpu.memory * settings.utilization) for gpu in available[:world]}
    requested = min(memory.values()) / MIB_PER_GIB
    weights = min(hf.weight_bytes(settings.model) / GIB / world, requested * 0.7)  # whatever the model, it fits
    return Fit(memory, weights, (requested - weights) * 0.9, DERIVED_CONTEXT if context < 0 else context)


def free_memory(wanted: Fit, cards: list[Gpu], held: list[Hold], utilization: float) -> None:
    """Refuse to start where somebody else holds the memory that we want."""
    for rank, (id, mib) in enumerate(wanted.memory.items()):
        total = next(card.memory for card in cards if card.id == id)
        free = total - sum(hold.memory for hold in held if hold.gpu == id)
        if free < mib:
            sizes = {"free": free, "total": total, "wanted": mib}
            facts = {name: f"{size / MIB_PER_GIB:.2f}" for name, size in sizes.items()}
            raise Failed(failures.GPU_BUSY, device=f"cuda:{rank}", utilization=utilization, **facts)

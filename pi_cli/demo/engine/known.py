"""What the catalogue knows of a model: the simulated vLLM divides the memory nearly as the plan expects."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.gpus import Gpu
from pi_cli.planning import catalogue, fit, gpu_space
from pi_cli.planning.catalogue import Entry
from pi_cli.store import records
from pi_cli.vllm import vllm_arguments

REAL_SHARE = 0.99  # of the KV cache that the plan expects: a real vLLM never gets exactly that either


class Division(NamedTuple):
    """The memory of each GPU in GiB, and the KV cache and the context in tokens."""

    weights: float
    kv_cache: float
    tokens: int
    context: int


@cache
def entry(model: str) -> Entry | None:
    return catalogue.find(model)


def divide(settings: Settings, gpus: Sequence[Gpu]) -> Division | None:
    """Return how a model of the catalogue divides the memory; None for other models, and for one that does not fit."""
    if (found := entry(settings.model)) is None:
        return None
    shape = fit.ModelShape(
        found.weights_gb * 1e9, found.dtype, found.architecture, is_sparse=found.attention == "sparse"
    )
    cards = [records.Gpu(gpu.id, gpu.name, f"{round(gpu.memory / 1024)}GB") for gpu in gpus]
    spaces = gpu_space.measure(cards, {}, {gpu.id: (0, gpu.memory) for gpu in gpus})
    arguments = [word for name, values in settings.given.items() for word in (f"--{name}", *values[-1:])]
    expected = fit.estimate(shape, spaces, vllm_arguments.parse(arguments))
    if not (expected.is_enough and expected.tokens and expected.context):
        return None
    memory = expected.memory
    return Division(memory.weights, memory.kv_cache * REAL_SHARE, int(expected.tokens * REAL_SHARE), expected.context)


def is_harmony(settings: Settings) -> bool:
    """Return whether a model answers in OpenAI's own format, of which vLLM always separates the reasoning."""
    return "gpt-oss" in settings.model.lower()


def sees(settings: Settings) -> bool:
    """Return whether a model reads images: by its name, since the configuration is made up here."""
    return "-vl-" in f"-{settings.model.lower().rpartition('/')[2]}-"


def thinks(settings: Settings) -> bool:
    """Return whether a model reasons before it answers; one that the catalogue does not know does."""
    found = entry(settings.model)
    return found is None or bool(found.reasoning_parser)

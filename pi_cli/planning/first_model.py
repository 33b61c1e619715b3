"""Which model to try first on a pod: one that fits it, downloads in minutes, thinks and calls tools. Pure."""

from collections.abc import Sequence

from pi_cli.planning import catalogue, lookup, verdicts
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.vllm.abilities import Vllm

# The best first; the last ones are for small GPUs.
MODELS = ("openai/gpt-oss-20b", "Qwen/Qwen3-8B", "Qwen/Qwen3-4B", "Qwen/Qwen3-4B-AWQ", "Qwen/Qwen3-0.6B")
ON_CPU = "Qwen/Qwen3-0.6B"


def find(spaces: Sequence[GpuSpace], vllm: Vllm, *, pod: str) -> str | None:
    """Return the first model that fits, or else one that is tight; None if the user has to choose."""
    tight: str | None = None
    for model in MODELS:
        if not spaces or (entry := catalogue.find(model)) is None:
            continue
        verdict = verdicts.judge(lookup.from_catalogue(entry).on(vllm), spaces, pod=pod)
        if verdict.status == "fits":
            return model
        if verdict.status == "tight":
            tight = tight or model
    return tight

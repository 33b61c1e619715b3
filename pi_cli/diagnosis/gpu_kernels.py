"""Which kernels of vLLM 0.32 run on which generation of GPUs, by CUDA's compute capability; for the order of remedies.

From its source: `platforms/cuda.py` (attention), `fused_moe/oracle` (experts), `quantization/*.py` (least capability).
"""

import re

Capability = tuple[int, int]

MARLIN_FROM = (7, 5)
FLASH_ATTENTION_FROM = (8, 0)
SHARED_MEMORY_OF_TURING = "65536"  # bytes of a block, as Triton names them; later generations have more
BLACKWELL = (10, 0)
# Of a quantised model: the forms that vLLM has kernels for, best first. Marlin computes FP8 in 16 bits before 8.9.
FORMS: tuple[tuple[Capability, str], ...] = (
    ((12, 0), "FP8, AWQ or GPTQ"),
    ((10, 0), "NVFP4 or FP8"),
    ((8, 9), "FP8, AWQ or GPTQ"),
    ((7, 5), "AWQ or GPTQ"),
    ((0, 0), "GPTQ, or one in 16 bits"),
)
ATTENTION: tuple[tuple[Capability, tuple[str, ...]], ...] = (
    ((8, 0), ("TRITON_ATTN", "FLASH_ATTN", "FLASHINFER")),
    ((7, 5), ("TRITON_ATTN", "FLASHINFER", "FLEX_ATTENTION")),
    ((0, 0), ("TRITON_ATTN", "FLEX_ATTENTION")),
)
UNKNOWN_GPU = ("TRITON_ATTN", "FLASH_ATTN")
NAMED = re.compile(r"(?:sm_?|SM|compute_)?(\d{1,2})\.?(\d)[a-z]?")


def parsed(text: str) -> Capability | None:
    """Return a capability as messages write it.

    >>> parsed("120"), parsed("sm_121a"), parsed("9.0"), parsed("75"), parsed("x")
    ((12, 0), (12, 1), (9, 0), (7, 5), None)
    """
    found = NAMED.fullmatch(text.strip())
    return (int(found[1]), int(found[2])) if found else None


def forms(capability: Capability | None) -> str:
    """Return the forms of a model that run on a GPU, in words; no text if the GPU is not known."""
    return "" if capability is None else next(text for least, text in FORMS if capability >= least)


def attention(capability: Capability | None) -> tuple[str, ...]:
    """Return the attention backends that run on a GPU; Triton compiles the first for any."""
    return UNKNOWN_GPU if capability is None else next(names for least, names in ATTENTION if capability >= least)


def has_marlin(capability: Capability | None) -> bool:
    return capability is None or capability >= MARLIN_FROM

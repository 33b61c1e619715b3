"""Find in vLLM's log how much memory it had for the KV cache. The patterns are vLLM 0.32's."""

import re
from dataclasses import dataclass

AVAILABLE_MEMORY = re.compile(r"Available KV cache memory: (-?\d+(?:\.\d+)?) GiB")
CACHE_SIZE = re.compile(r"(?:GPU|CPU) KV cache size: (\d[\d,]{0,20}) tokens")
VLLM_VERSION = re.compile(r"Initializing a V\d LLM engine \(v([^)]+)\)")


@dataclass(frozen=True, slots=True)
class KvCache:
    """The GiB per GPU of the KV cache, the tokens that fit, and the version of vLLM that logged them."""

    memory: float
    tokens: int
    vllm: str


def find(log: str) -> KvCache | None:
    """Return the figures of the last start in a log; None without them. Of several workers, the least counts."""
    starts = list(VLLM_VERSION.finditer(log))
    text = log[starts[-1].start() :] if starts else log
    available = [float(memory) for memory in AVAILABLE_MEMORY.findall(text)]
    tokens = [int(count.replace(",", "")) for count in CACHE_SIZE.findall(text)]
    if not available or not tokens:
        return None
    return KvCache(min(available), min(tokens), starts[-1][1] if starts else "")

"""Read from vLLM's log what memory it had for the KV cache. Texts are vLLM 0.32's."""

import re
from dataclasses import dataclass

AVAILABLE = re.compile(r"Available KV cache memory: (-?[\d.]+) GiB")
TOKENS = re.compile(r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens")
VERSION = re.compile(r"Initializing a V\d LLM engine \(v([^)]+)\)")


@dataclass(frozen=True, slots=True)
class KvCache:
    """GiB per GPU, the tokens that they hold, and the version of vLLM that says so."""

    memory: float
    tokens: int
    vllm: str


def find(log: str) -> KvCache | None:
    """Return the last start's figures; of several workers the one with the least, which decides; None without them."""
    begun = list(VERSION.finditer(log))
    text = log[begun[-1].start() :] if begun else log
    available = [float(found) for found in AVAILABLE.findall(text)]
    tokens = [int(found.replace(",", "")) for found in TOKENS.findall(text)]
    if not available or not tokens:
        return None
    return KvCache(min(available), min(tokens), begun[-1][1] if begun else "")

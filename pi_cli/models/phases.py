"""Read from vLLM's log how far the start is. The texts are vLLM 0.32's; older ones share most of them."""

import re

# In the order they come. The first line of the log that matches names the phase.
PHASES = {
    r"Resolved architecture": "reading the model's config",
    r"Initializing a V\d LLM engine": "starting the engine",
    r"Starting to load model|Loading model from scratch": "loading weights",
    r"Model loading took": "profiling memory",
    r"Using cache directory|Compiling a graph|Dynamo bytecode transform": "compiling",
    r"GPU KV cache size|CPU KV cache size": "warming up",
    r"Capturing CUDA graphs": "capturing CUDA graphs",
    r"init engine \(": "starting the server",
}

_ANY = re.compile("|".join(f"({pattern})" for pattern in PHASES))
_NAMES = tuple(PHASES.values())
_SHARDS = re.compile(r"Loading safetensors checkpoint shards:\s+(\d+)% Completed \| (\d+/\d+)")


def latest(text: str) -> str | None:
    """Return the last phase that a piece of log enters, or None."""
    found = None
    for match in _ANY.finditer(text):
        assert match.lastindex is not None
        found = _NAMES[match.lastindex - 1]
    if found in (None, "loading weights") and (shards := _SHARDS.findall(text)):
        return f"loading weights {shards[-1][1]}"
    return found

"""Read from vLLM's log how far a start is. Texts are vLLM 0.32's; older ones share most."""

import contextlib
import os
import re
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from agent import protocol

# In the order they come.
PHASES = (
    (rb"Resolved architecture", "reading the model's config"),
    (rb"Initializing a V\d LLM engine", "starting the engine"),
    (rb"Starting to load model|Loading model from scratch", "loading weights"),
    (rb"Model loading took", "profiling memory"),
    (rb"Using cache directory|Compiling a graph|Dynamo bytecode transform", "compiling"),
    (rb"GPU KV cache size|CPU KV cache size", "warming up"),
    (rb"Capturing CUDA graphs", "capturing CUDA graphs"),
    (rb"init engine \(", "starting the server"),
)
ANY = re.compile(b"|".join(b"(%s)" % pattern for pattern, _ in PHASES))
SHARDS = re.compile(rb"Loading safetensors checkpoint shards:\s+\d+% Completed \| (\d+/\d+)")
LOADING = "loading weights"
LAUNCHED: "protocol.Launching" = "starting vLLM"
MOST_READ = 4000000  # bytes at the end of a log, in which the start of a model is


class Phases:
    """Follows the phases through a log that comes in pieces; `now` is the last one entered, None before the first."""

    def __init__(self) -> None:
        self.now: Optional[str] = None
        self._rest = b""

    def feed(self, chunk: bytes) -> Optional[str]:
        """Take in the next piece; return the phase, with the shards so far, if this piece tells of one."""
        whole, mark, self._rest = (self._rest + chunk).rpartition(b"\n")
        if not mark and len(self._rest) > 65536:
            whole, self._rest = self._rest, b""
        found = None
        for match in ANY.finditer(whole):
            found = self.now = PHASES[(match.lastindex or 1) - 1][1]
        if self.now in (None, LOADING):
            # A bar is drawn over and over on one line, which has no end yet.
            for match in SHARDS.finditer(whole + mark + self._rest):
                self.now = LOADING
                found = "%s %s" % (LOADING, match.group(1).decode("ascii"))
        return found


def phase_of(log: str) -> Optional[str]:
    """Return the phase that a log has come to."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_READ))
        return Phases().feed(file.read() + b"\n")
    return None

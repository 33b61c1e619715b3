"""Find the phase of a start in vLLM's log. The patterns are for vLLM 0.32; most also match older versions."""

import contextlib
import os
import re
from typing import TYPE_CHECKING, Optional, Tuple

from agent import home

if TYPE_CHECKING:
    from agent import protocol

# In order.
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
COMPILING = "compiling"
LAUNCHED: "protocol.Launching" = "starting vLLM"
MAX_READ = 4000000  # bytes at the end of a log, which contain the start of a model


class Phases:
    """Tracks the phase of a log that arrives in chunks; `now` is the latest phase, None before the first."""

    def __init__(self) -> None:
        self.now: Optional[str] = None
        self._rest = b""

    def feed(self, chunk: bytes) -> Optional[str]:
        """Add a chunk; return the latest phase in it, with the number of shards loaded, or None."""
        whole, mark, self._rest = (self._rest + chunk).rpartition(b"\n")
        if not mark and len(self._rest) > 65536:
            whole, self._rest = self._rest, b""
        phase = None
        for match in ANY.finditer(whole):
            phase = self.now = PHASES[(match.lastindex or 1) - 1][1]
        if self.now in (None, LOADING):
            # A progress bar is redrawn on one line, which has no line break yet.
            for match in SHARDS.finditer(whole + mark + self._rest):
                self.now = LOADING
                phase = "%s %s" % (LOADING, match.group(1).decode("ascii"))
        return phase


def phase_of(log: str) -> Optional[str]:
    """Return the latest phase in a log: as `Phases`, but without a regular expression over the whole log."""
    with contextlib.suppress(OSError), os.fdopen(home.open_regular(log), "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_READ))
        text = file.read()
        phase, start = last_phase(text)
        if phase in (None, LOADING):
            for match in SHARDS.finditer(text, start):
                phase = "%s %s" % (LOADING, match.group(1).decode("ascii"))
        return phase
    return None


def last_phase(text: bytes) -> Tuple[Optional[str], int]:
    """Return the latest phase in a text, and where it begins; (None, 0) if there is none."""
    phase, last = None, 0
    for pattern, name in PHASES:
        for words in pattern.split(b"|"):
            beginning, end = words.partition(b"\\")[0], len(text)
            while True:
                end = text.rfind(beginning, last, end)
                if end < 0 or re.match(words, text[end : end + 100]):
                    break
            if end >= 0:
                phase, last = name, end
    return phase, last

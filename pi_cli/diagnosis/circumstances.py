"""What a log says besides the cause of a failure: the lines around it, how far the start had come, the memory. Pure."""

import re
from dataclasses import dataclass

from pi_cli.diagnosis import log_statements, memory_lines

AROUND = 4  # lines before and behind
MAX_LINE = 400  # characters
# vLLM 0.32; the pod knows the same phases while a model starts (`remote/agent/phases.py`).
PHASES = (
    (r"Resolved architecture", "reading the model's config"),
    (r"Initializing a V\d LLM engine", "starting the engine"),
    (r"Starting to load model|Loading model from scratch", "loading weights"),
    (r"Model loading took", "profiling memory"),
    (r"Using cache directory|Compiling a graph|Dynamo bytecode transform", "compiling"),
    (r"[GC]PU KV cache size", "warming up"),
    (r"Capturing CUDA graphs", "capturing CUDA graphs"),
    (r"init engine \(", "starting the server"),
    (r"Application startup complete", "serving"),
)
WEIGHTS = re.compile(r"Model loading took (\d+(?:\.\d+)?) GiB")
LACKING = re.compile(
    r"Tried to allocate (?P<need>[\d.]+ [KMG]iB).{0,80}?total capacity of (?P<all>[\d.]+ GiB) of which "
    r"(?P<free>[\d.]+ [KMG]iB) is free"
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """`context` are lines of the log, of which `at` is the one that tells; None if it is not among them.

    `phase` is how far vLLM had come; empty if the log does not say it. `memory` is what it says about GPU memory.
    """

    context: tuple[str, ...]
    at: int | None
    phase: str
    memory: tuple[str, ...]


def find(log: str, line: str) -> Circumstances:
    """Return the circumstances of an error, whose telling line is known."""
    lines = [each.rstrip() for each in re.split(r"[\r\n]+", log_statements.COLOUR.sub("", log)) if each.strip()]
    told = line.rstrip("…").strip()
    at = next((index for index, each in enumerate(lines) if told and told in each), None)
    end = len(lines) if at is None else min(len(lines), at + AROUND + 1)
    begin = max(0, end - 2 * AROUND if at is None else at - AROUND)
    before = "\n".join(lines[: end if at is None else at + 1])
    context = tuple(_short(each) for each in lines[begin:end])
    return Circumstances(context, None if at is None else at - begin, _phase(before), tuple(_memory(before, log)))


def _phase(log: str) -> str:
    """Return the phase whose line came last."""
    found = [(match.start(), name) for pattern, name in PHASES for match in list(re.finditer(pattern, log))[-1:]]
    return max(found, default=(0, ""))[1]


def _memory(before: str, log: str) -> list[str]:
    facts = []
    if weights := WEIGHTS.findall(before):
        facts.append(f"the weights took {max(map(float, weights)):.1f} GiB on each GPU")
    if available := [float(each) for each in memory_lines.AVAILABLE_MEMORY.findall(before)]:
        facts.append(f"{min(available):.1f} GiB were left for the KV cache")
    if lacking := LACKING.search(log):
        facts.append(f"{lacking['need']} more were wanted, when {lacking['free']} of {lacking['all']} were free")
    return facts


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[:MAX_LINE] + "…"

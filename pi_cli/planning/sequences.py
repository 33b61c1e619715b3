"""How many requests vLLM runs at once (`--max-num-seqs`), and for how many the KV cache has blocks.

A model with linear layers (Mamba, gated delta nets) needs a block of the KV cache for the state of each request. vLLM
0.32 refuses to start if `--max-num-seqs` is more than the blocks that are left after the weights are loaded, unless the
CUDA graphs of whole decoding steps are off (`resolve_cudagraph_mode_and_sizes` in config/compilation.py, called by both
model runners). Its default knows nothing of that: a plan gives a smaller number.
"""

import json
import re
from collections.abc import Sequence

from pi_cli.planning.fit import MemoryFit, batched_tokens, requests_at_once
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.vllm import vllm_arguments

# Of the blocks that we expect, a plan uses this part. Our number is an estimate, and a wrong one is noticed only after
# the weights are loaded: in a public log, 890 were expected and 856 were there; the memory beside weights and KV cache,
# which decides it, was up to 8 GiB larger than assumed. Half costs nothing: a request takes a block of each group of
# layers, of which a hybrid model has two or more, so no more than half as many requests as blocks ever run at once.
SHARE_OF_BLOCKS = 0.5
STEP = 8  # vLLM captures CUDA graphs for multiples of it (`_set_cudagraph_sizes`, config/vllm.py)

GRAPHS_OFF = ("--enforce-eager",)
COMPILATION = ("--compilation-config", "-cc")
GRAPH_MODES = tuple(f"{name}.{key}" for name in COMPILATION for key in ("cudagraph-mode", "cudagraph_mode"))
OPTIMISATION = ("--optimization-level", "-O")
LEVELS_WITHOUT_FULL_GRAPHS = ("0", "1")
MODES_WITHOUT_FULL_GRAPHS = ("NONE", "PIECEWISE")


def configured(arguments: Sequence[str], space: GpuSpace) -> int:
    """Return how many requests vLLM would run at once with these arguments on this GPU."""
    number = vllm_arguments.number(vllm_arguments.value(arguments, vllm_arguments.SEQUENCES) or "")
    return number or min(requests_at_once(space) * _times(arguments), batch(arguments, space))


def capped(arguments: Sequence[str], space: GpuSpace, memory_fit: MemoryFit) -> int | None:
    """Return the `--max-num-seqs` that fits the KV cache, in steps of 8; None if what is configured does."""
    blocks = memory_fit.state_blocks
    if blocks is None or not has_full_graphs(arguments):
        return None
    most = int(blocks * SHARE_OF_BLOCKS)
    if configured(arguments, space) <= most:
        return None
    return min(max(1, most - most % STEP if most > STEP else most), batch(arguments, space))


def has_full_graphs(arguments: Sequence[str]) -> bool:
    """Return whether vLLM captures CUDA graphs of whole decoding steps: by default it does.

    >>> has_full_graphs([]), has_full_graphs(["-O1"]), has_full_graphs(["-cc.cudagraph_mode=NONE"])
    (True, False, False)
    """
    if any(vllm_arguments.name_of(argument) in GRAPHS_OFF for argument in arguments):
        return False
    level = vllm_arguments.value(arguments, OPTIMISATION)
    for argument in arguments:
        if attached := re.fullmatch(r"-O=?(\d)", argument):
            level = attached[1]
    mode = vllm_arguments.value(arguments, GRAPH_MODES) or _mode(vllm_arguments.value(arguments, COMPILATION))
    if mode:
        return mode.upper() not in MODES_WITHOUT_FULL_GRAPHS
    return level not in LEVELS_WITHOUT_FULL_GRAPHS


def _mode(compilation: str | None) -> str:
    """Return the graph mode of a compilation configuration in JSON; empty if it says nothing about it."""
    try:
        settings = json.loads(compilation or "{}")
    except ValueError:
        return ""
    mode = settings.get("cudagraph_mode") if isinstance(settings, dict) else None
    return mode if isinstance(mode, str) else ""


def batch(arguments: Sequence[str], space: GpuSpace) -> int:
    """Return the tokens of a batch, which limit the requests in it."""
    number = vllm_arguments.number(vllm_arguments.value(arguments, vllm_arguments.BATCHED_TOKENS) or "")
    return number or batched_tokens(space) * _times(arguments)


def _times(arguments: Sequence[str]) -> int:
    """Return by how much vLLM multiplies its defaults (`_set_default_max_num_seqs_and_batched_tokens_args`)."""
    return 2 if vllm_arguments.value(arguments, ("--performance-mode",)) == "throughput" else 1

"""How much memory a model lacks on GPUs that it would have to itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pi_cli.planning import candidates, fit
from pi_cli.planning.candidates import Candidate, Constraints
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel
from pi_cli.vllm import vllm_arguments


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a model needs of each of its GPUs and what they offer, in GiB.

    `usable` is what vLLM may use of each GPU. `kv_cache` is left of that for the KV cache; 0.0: the weights and the
    overhead exceed it. `longest` is the longest context for which the KV cache has space, in tokens.
    """

    count: int
    kind: str
    weights: float
    overhead: float
    usable: float
    kv_cache: float
    longest: int


def compute(profile: KnownModel, constraints: Constraints, spaces: Sequence[GpuSpace]) -> Shortfall | None:
    """Compute the shortfall of the candidate that leaves the most memory; None if there is no candidate."""
    ways = candidates.possible(profile, constraints.gpus, spaces)
    largest = max(ways, key=lambda way: _left(profile, way), default=None)
    if largest is None:
        return None
    chosen = largest.spaces[: largest.count]
    options = vllm_arguments.parse(largest.arguments)
    share = candidates.share_of_memory(largest, constraints)
    options = replace(options, memory=share, context=constraints.context or options.context)
    measured = candidates.measured_memory(profile, largest, options)
    memory_fit = fit.estimate(profile.shape, chosen, options, measured)
    memory = memory_fit.memory
    return Shortfall(
        largest.count,
        chosen[0].kind,
        memory.weights,
        memory.overhead,
        memory.total * options.memory,
        memory.kv_cache,
        memory_fit.longest or 0,
    )


def _left(profile: KnownModel, candidate: Candidate) -> float:
    """Return the GiB that the weights leave of all GPUs of a candidate."""
    total = sum(space.total for space in candidate.spaces[: candidate.count]) / fit.MIB_PER_GIB
    weights = fit.weights_per_gpu(profile.shape, vllm_arguments.parse(candidate.arguments))
    return total - weights * candidate.count

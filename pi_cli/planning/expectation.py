"""What the user's own vLLM arguments mean for a start: refused if vLLM refuses them, else how they fit by estimate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.planning import conditions, fit, gpu_space, speculation
from pi_cli.planning.conditions import Unmet
from pi_cli.planning.fit import MeasuredMemory, MemoryFit, ModelShape
from pi_cli.planning.gpu_space import GpuSpace
from pi_cli.planning.profile import KnownModel, ModelProfile
from pi_cli.planning.speculation import Speculation
from pi_cli.vllm import vllm_arguments

# What a start takes at the least: nothing beside its weights, of which vLLM may leave out a few that it does not need
# (layers for further tokens). What it lacks even then is certain.
NO_OVERHEAD, NEEDED_WEIGHTS = MeasuredMemory(0.0), 0.95


@dataclass(frozen=True, slots=True)
class Expectation:
    """How a model fits with arguments, in what the estimate may be wrong (`remarks`), and what vLLM would refuse."""

    fit: MemoryFit | None = None
    remarks: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


def check(profile: ModelProfile, arguments: Sequence[str], space: GpuSpace | None) -> None:
    """Raise `BadUsage` for arguments that vLLM refuses for this model, whatever the memory."""
    architecture = profile.shape.architecture if isinstance(profile, KnownModel) else None
    for unmet in conditions.certain(architecture, arguments, space):
        raise _refused(profile, unmet)


def expect(profile: ModelProfile, arguments: Sequence[str], spaces: Sequence[GpuSpace]) -> Expectation:
    """Estimate how a model fits these GPUs. Raises `BadUsage` if it cannot, even if little but weights took memory."""
    draft = speculation.parse(arguments)
    remarks = (*([_remark(draft)] if draft else []), *_on_unified_memory(arguments, spaces))
    if not isinstance(profile, KnownModel):
        return Expectation(remarks=remarks)
    shape, options = _with_drafts(profile.shape, draft), vllm_arguments.parse(arguments)
    estimated = fit.estimate(shape, spaces, options)
    if not conditions.is_estimated(arguments):
        return Expectation(None, (*remarks, "how the memory is divided with these arguments is not estimated"))
    likely = list(conditions.likely(estimated, arguments, spaces[0]))
    at_best = fit.estimate(replace(shape, weights=shape.weights * NEEDED_WEIGHTS), spaces, options, NO_OVERHEAD)
    if likely and any(conditions.likely(at_best, arguments, spaces[0])):
        raise _refused(profile, likely[0])
    return Expectation(estimated, remarks, tuple(f"{unmet.reason}; {unmet.hint}" for unmet in likely))


def _on_unified_memory(arguments: Sequence[str], spaces: Sequence[GpuSpace]) -> Iterator[str]:
    """Say that vLLM's default leaves too little of a machine's memory to the machine."""
    share = gpu_space.default_share(spaces)
    if share < vllm_arguments.DEFAULT_MEMORY and vllm_arguments.value(arguments, vllm_arguments.MEMORY_SHARE) is None:
        words = "`--gpu-memory-utilization {share}` would leave room for the machine's own programs"
        advice = fill(words, share=f"{share:.2f}")
        yield f"vLLM takes {vllm_arguments.DEFAULT_MEMORY:.0%} of the machine's memory; {advice}"


def _refused(profile: ModelProfile, unmet: Unmet) -> BadUsage:
    return BadUsage(f"vLLM would not start `{profile.id}` with these arguments: {unmet.reason}", hint=unmet.hint)


def _with_drafts(shape: ModelShape, draft: Speculation | None) -> ModelShape:
    if draft is None or shape.architecture is None:
        return shape
    return replace(shape, architecture=speculation.with_drafts(shape.architecture, draft))


def _remark(draft: Speculation) -> str:
    """Say what of speculative decoding the estimate counts."""
    if draft.is_mtp:
        return "speculative decoding: the KV cache of the model's own prediction layers is counted, as its weights are"
    if not draft.has_weights:
        return "speculative decoding without a draft model: it takes no memory of the GPUs"
    return "speculative decoding: the draft model's weights and KV cache are not counted, so less fits than is shown"

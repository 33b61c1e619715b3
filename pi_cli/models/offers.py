"""Put the ways in which a model could run onto the GPUs there are, and choose the best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pi_cli.models import arguments, candidates, fit, placement
from pi_cli.models.arguments import Options
from pi_cli.models.candidates import Candidate
from pi_cli.models.fit import Fit, Measured
from pi_cli.models.placement import Room
from pi_cli.models.profile import Profile

ROOMY = 2.0  # requests of the whole context at once, from which on more GPUs are not worth having
LEAST_CONTEXT = 4096  # tokens: where less would fit, the model counts as not fitting, unless less is asked for


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for. `own` are vLLM arguments, taken as they are; `memory` is a share of each GPU's."""

    own: tuple[str, ...] | None = None
    gpus: int | None = None
    memory: float | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """A candidate on GPUs of its own: `memory` is the share of each that it takes, `fit` how it sits there."""

    candidate: Candidate
    rooms: Sequence[Room]
    arguments: tuple[str, ...]
    memory: float
    fit: Fit

    @property
    def is_shared(self) -> bool:
        return not all(room.is_free for room in self.rooms)

    @property
    def is_roomy(self) -> bool:
        """Tell whether it serves the whole context to several requests at once. Where nobody can tell, it counts so."""
        return self.fit.concurrency is None or self.fit.concurrency >= ROOMY


def best(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> Offer | None:
    """Return the best offer with which vLLM would start.

    GPUs of its own come before shared ones, then what serves the whole context to several requests at once, the fewest
    GPUs first, or else the longest context; among equals what is in the catalogue before what is derived.
    """
    return min(_possible(profile, wish, rooms), key=_rank, default=None)


def measured(profile: Profile, candidate: Candidate, options: Options) -> Measured | None:
    """Return what an earlier start on the same kind and number of GPUs told, if it was split in the same way."""
    found = profile.measured.get((candidate.rooms[0].kind, candidate.count))
    return found if found and found.tensor == options.tensor else None


def _possible(profile: Profile, wish: Wish, rooms: Sequence[Room]) -> Iterator[Offer]:
    for candidate in candidates.of(profile, wish.gpus, rooms):
        offer = _placed(profile, wish, candidate)
        if offer and offer.fit.is_enough:
            yield offer


def _placed(profile: Profile, wish: Wish, candidate: Candidate) -> Offer | None:
    """Choose the GPUs, the share of their memory and the context; None where there is no room."""
    options = arguments.read(candidate.arguments)
    share = wish.memory or options.memory
    rooms = placement.least_used(candidate.rooms, candidate.count, share)
    if rooms is None and wish.memory is None:
        rooms, share = placement.roomiest(candidate.rooms, candidate.count)
    if not rooms or share < placement.LEAST_SHARE:
        return None
    own = candidate.arguments
    if share != options.memory:
        own = (*arguments.without(own, arguments.MEMORY), "--gpu-memory-utilization", f"{share:.2f}")
    if wish.context:
        own = (*arguments.without(own, arguments.CONTEXT), "--max-model-len", str(wish.context))
    wanted = replace(arguments.read(own), memory=share)
    return _in_context(profile, wish, candidate, rooms, own, wanted)


def _in_context(
    profile: Profile, wish: Wish, candidate: Candidate, rooms: Sequence[Room], own: tuple[str, ...], options: Options
) -> Offer:
    """Let vLLM shorten the context where it may not fit: our figures are estimates, and a start costs minutes."""
    assert profile.shape is not None
    known = measured(profile, candidate, options)
    found = fit.estimate(profile.shape, rooms, options, known)
    offer = Offer(candidate, rooms, own, options.memory, found)
    is_sure = options.context is not None and found.is_enough
    if wish.context or options.is_context_auto or is_sure or (offer.is_roomy and found.concurrency is not None):
        return offer
    if found.concurrency is None and not candidate.is_derived:
        return offer  # the catalogue knows better than we, who know nothing of its KV cache
    auto = replace(options, context=None, is_context_auto=True)
    found = fit.estimate(profile.shape, rooms, auto, known)
    if found.context is not None and found.context < min(LEAST_CONTEXT, profile.max_context or LEAST_CONTEXT):
        found = replace(found, longest=0)
    shortened = (*arguments.without(own, arguments.CONTEXT), "--max-model-len", "auto")
    return Offer(candidate, rooms, shortened, options.memory, found)


def _rank(offer: Offer) -> tuple[float, ...]:
    count, is_derived = offer.candidate.count, offer.candidate.is_derived
    if offer.is_roomy:
        return offer.is_shared, False, is_derived, count
    return offer.is_shared, True, -(offer.fit.context or 0), is_derived, -(offer.fit.concurrency or 0), count

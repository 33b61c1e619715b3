"""7: a pod with eight models, against one ssh and one curl for each."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import FIRST_PORT, Place

MODELS = 8


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(MODELS)
    place.remember_busy(models=MODELS)
    ports = " ".join(str(FIRST_PORT + number) for number in range(MODELS))
    by_hand = place.shell(
        f"for port in {ports}; do {place.ssh_line()} curl -sf -o /dev/null http://127.0.0.1:$port/health; done"
    )
    ours, theirs = in_turns(
        rounds,
        lambda: run([place.pi, "list"], place.environ),
        lambda: run(by_hand, place.environ),
    )
    what, baseline = f"`pi list`, {MODELS} models", "`ssh … curl …/health` for each, in sequence"
    yield figure("7", what, baseline, [each.wall for each in ours], [each.wall for each in theirs], 0.13)

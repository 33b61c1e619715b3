"""16: what more pods and models cost: for each of the second half of them, against each of the first half."""

import statistics
from collections.abc import Callable, Iterator

from tests.bench.measure import Cost, Figure, figure, in_turns, run
from tests.bench.place import Place

PODS = (1, 8, 16, 32, 64)
MODELS = (1, 50, 100, 200)
STEP = 1.3  # what the second half may cost, of what the first half costs


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    assert place.idle
    place.have_models(MODELS[-1])

    def on_pods(pods: int) -> Cost:
        place.remember(pods=pods)
        return run([place.pi, "list", "--all"], place.environ)

    def with_models(models: int) -> Cost:
        place.remember_busy(models=models)
        return run([place.pi, "list", "--no-check"], place.environ)

    yield row("16a", "`pi list --all`: CPU", "pods", PODS, on_pods, rounds)
    yield row("16b", "`pi list --no-check`: CPU", "models", MODELS, with_models, rounds)


def row(number: str, what: str, kind: str, counts: tuple[int, ...], work: Callable[[int], Cost], rounds: int) -> Figure:
    costs = in_turns(rounds, *(lambda count=count: work(count) for count in counts))
    curve = ", ".join(
        f"{count}: {statistics.median(each.cpu for each in one) * 1000:.0f} ms"
        for count, one in zip(counts, costs, strict=True)
    )
    none, half, whole = ([each.cpu for each in costs[at]] for at in (0, -2, -1))
    first = [(b - a) / (counts[-2] - counts[0]) for a, b in zip(none, half, strict=True)]
    second = [(b - a) / (counts[-1] - counts[-2]) for a, b in zip(half, whole, strict=True)]
    return figure(number, f"{what} ({curve})", f"of each of the first {counts[-2]} {kind}", second, first, STEP)

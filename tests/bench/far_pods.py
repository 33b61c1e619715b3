"""20: what runs on 64 pods that are far away, against `true` on 64 pods by as many ssh at once."""

from collections.abc import Iterator

from tests.bench.distances import AtDistances, measured
from tests.bench.fan_out import BASELINE, by_hand
from tests.bench.measure import run
from tests.bench.place import MOST_PODS, Place
from tests.lab.wire import Wire


def measure(place: Place, rounds: int) -> Iterator[AtDistances]:
    assert place.idle
    place.remember(pods=MOST_PODS)
    works = {
        "first": lambda: run([place.pi, "list", "--all"], place.environ),
        "again": lambda: run([place.pi, "list", "--all"], place.holding),
        "by hand": lambda: run(by_hand(place), place.environ),
    }
    with Wire(place.idle) as way, place.links(MOST_PODS):
        costs = measured(way, rounds, works)
    baseline = (BASELINE, "by hand")
    what = f"`pi list --all`, {MOST_PODS} pods"
    for numbers, name, wall, cpu in (("ab", "first", 0.9, 0.3), ("cd", "again", 0.45, 0.25)):
        yield costs.row(f"20{numbers[0]}", f"{what}, {name}: wall", name, baseline, wall)
        yield costs.row(
            f"20{numbers[1]}", f"{what}, {name}: client's CPU", name, baseline, cpu, value=lambda cost: cost.cpu
        )

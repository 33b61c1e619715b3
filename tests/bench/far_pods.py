"""20: what runs on 64 pods that are far away, against `true` on 64 pods by as many ssh at once."""

from collections.abc import Iterator, Mapping, Sequence

from tests.bench.distances import AtDistances, measured
from tests.bench.fan_out import BASELINE, by_hand
from tests.bench.measure import Cost, run, settle
from tests.bench.place import MOST_PODS, Place
from tests.lab.wire import Wire


def measure(place: Place, rounds: int) -> Iterator[AtDistances]:
    assert place.idle
    place.remember(pods=MOST_PODS)

    def settled(command: Sequence[str], environ: Mapping[str, str]) -> Cost:
        settle()  # the pods load their agents for the next "again", on the processors of this machine
        return run(command, environ)

    works = {
        "first": lambda: settled([place.pi, "list", "--all"], place.environ),
        "again": lambda: settled([place.pi, "list", "--all"], place.holding),
        "by hand": lambda: settled(by_hand(place), place.environ),
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

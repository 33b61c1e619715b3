"""19: the first token of an answer in a fresh process, from a pod that is far away."""

from collections.abc import Iterator

from tests.bench.distances import AtDistances, measured
from tests.bench.first_token import BASELINE, by_hand, first_output, prompt
from tests.bench.place import FIRST_PORT, LAST_PORT, Place
from tests.lab.wire import Wire


def measure(place: Place, rounds: int) -> Iterator[AtDistances]:
    place.have_models(1)
    place.remember_busy(models=1)
    works = {
        "first": lambda: first_output(prompt(place), place.environ),
        "again": lambda: first_output(prompt(place), place.holding),
        "by hand": lambda: first_output(by_hand(place), place.environ),
    }
    with Wire(place.busy) as way, way.filtered(FIRST_PORT, LAST_PORT), place.links(1):
        costs = measured(way, rounds, works, counted=[*works])
    for number, name, goal in (("19a", "first", 0.6), ("19b", "again", 0.35)):
        yield costs.row(number, f"`pi prompt`, first token, {name}", name, (BASELINE, "by hand"), goal)

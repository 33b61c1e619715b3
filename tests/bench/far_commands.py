"""17 and 18: commands for a pod that is far away: what a user waits for, and what this machine computes.

"First" is a command of a user who has used the pod before, but not in the last minutes; "again" is one within minutes
of another. The models' ports cannot be reached from here but through SSH, as where a provider routes only some.
"""

from collections.abc import Iterator

from tests.bench.distances import AtDistances, measured
from tests.bench.measure import Cost, run
from tests.bench.place import FIRST_PORT, LAST_PORT, Place
from tests.lab.wire import Wire

MODELS = 8


def measure(place: Place, rounds: int) -> Iterator[AtDistances]:
    place.have_models(MODELS)
    place.remember_busy(models=MODELS)

    def stop() -> Cost:
        name = place.one_more()
        return run([place.pi, "stop", name], place.environ)

    works = {
        "list": lambda: run([place.pi, "list"], place.environ),
        "list again": lambda: run([place.pi, "list"], place.holding),
        "ssh": lambda: run([place.pi, "ssh", "busy", "true"], place.environ),
        "stop": stop,
        "logs": lambda: run([place.pi, "logs", "m1", "-n", "1", "--no-follow"], place.environ),
        "by hand": lambda: run([*place.ssh(), "true"], place.environ),
        "python": lambda: run([place.python, "-c", "pass"], place.environ),
    }
    counted = [name for name in works if name != "python"]
    with Wire(place.busy) as way, way.filtered(FIRST_PORT, LAST_PORT), place.links(1):
        costs = measured(way, rounds, works, counted=counted)
    by_hand, python = ("`ssh busy true`", "by hand"), ("`python -c pass`", "python")
    yield costs.row("17a", f"`pi list`, {MODELS} models, first", "list", by_hand, 0.55)
    yield costs.row("17b", f"`pi list`, {MODELS} models, again", "list again", by_hand, 0.22)
    yield costs.row("17c", "`pi ssh busy true`", "ssh", by_hand, 0.55)
    yield costs.row("17d", "`pi stop m`", "stop", by_hand, 0.6)
    yield costs.row("17e", "`pi logs m1 -n 1 --no-follow`", "logs", by_hand, 0.6)
    yield costs.row("18a", "CPU of `pi list`, first", "list", python, 8, value=lambda cost: cost.cpu)
    yield costs.row("18b", "CPU of `pi list`, again", "list again", python, 5, value=lambda cost: cost.cpu)

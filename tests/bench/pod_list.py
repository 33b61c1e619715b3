"""2: the list of eight pods."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import Place


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.remember(pods=8, models=1)
    ours, theirs = in_turns(
        rounds,
        lambda: run([place.pi, "pods"], place.environ),
        lambda: run([place.python, "-c", "pass"], place.environ),
    )
    wall = [each.wall for each in ours]
    yield figure("2", "`pi pods`, 8 pods", "`python -c pass`", wall, [each.wall for each in theirs], 5)

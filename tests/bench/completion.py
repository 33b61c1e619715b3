"""3: what a shell waits for when somebody presses Tab behind `pi stop m`."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import Place


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.remember(pods=8, models=1)
    pressed = place.environ | {"_PI_COMPLETE": "complete_bash", "COMP_WORDS": "pi stop m", "COMP_CWORD": "2"}
    ours, theirs = in_turns(
        rounds,
        lambda: run([place.pi], pressed),
        lambda: run([place.python, "-c", "pass"], place.environ),
    )
    wall = [each.wall for each in ours]
    yield figure("3", "completion of a model's name", "`python -c pass`", wall, [each.wall for each in theirs], 5)

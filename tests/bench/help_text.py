"""1: help, of all and of one command."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import Place


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    for number, words in (("1a", ["--help"]), ("1b", ["start", "--help"])):
        ours, theirs = in_turns(
            rounds,
            lambda words=words: run([place.pi, *words], place.environ),  # type: ignore[misc]
            lambda: run([place.python, "-c", "pass"], place.environ),
        )
        what = f"`pi {' '.join(words)}`"
        yield figure(number, what, "`python -c pass`", [each.wall for each in ours], [each.wall for each in theirs], 6)

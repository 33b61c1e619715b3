"""8: the memory that 64 pods take."""

from collections.abc import Iterator

from tests.bench.measure import Cost, Figure, figure, in_turns, run
from tests.bench.place import MOST_PODS, Place

MIB = 1 << 20


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    assert place.idle

    def of(pods: int) -> Cost:
        place.remember(pods=pods)
        return run([place.pi, "list", "--all"], place.environ)

    many, one, imported = in_turns(
        rounds,
        lambda: of(MOST_PODS),
        lambda: of(1),
        lambda: run([place.python, "-c", "import asyncssh"], place.environ),
    )
    baseline = [each.peak / MIB for each in imported]
    for number, pods, costs in (("8a", MOST_PODS, many), ("8b", 1, one)):
        what = f"memory of `pi list --all`, {pods} pod{'s' * (pods > 1)}"
        ours = [each.peak / MIB for each in costs]
        yield figure(number, what, "`python -c 'import asyncssh'`", ours, baseline, 1.5, unit="MiB")

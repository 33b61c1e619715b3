"""4: one command on a pod, in a process of its own: by the user's ssh, and by pi's own connection."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import Place


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    place.have_models(1)
    place.remember_busy(models=1)
    by_hand = [*place.ssh(), "true"]
    by_pi = {
        "4a": ("`pi ssh busy true`", ["ssh", "busy", "true"]),
        "4b": ("`pi logs m1 -n 1 --no-follow`", ["logs", "m1", "-n", "1", "--no-follow"]),
    }
    for number, (what, words) in by_pi.items():
        ours, theirs = in_turns(
            rounds,
            lambda words=words: run([place.pi, *words], place.environ),  # type: ignore[misc]
            lambda: run(by_hand, place.environ),
        )
        wall = [each.wall for each in ours]
        yield figure(number, what, "`ssh busy true`", wall, [each.wall for each in theirs], 1.35)

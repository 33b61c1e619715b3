"""6: what runs on 64 pods, against `true` on 64 pods by as many ssh at once."""

from collections.abc import Iterator

from tests.bench.measure import Figure, figure, in_turns, run
from tests.bench.place import MOST_PODS, Place

BASELINE = f"`xargs -P{MOST_PODS} ssh … true`, curve25519"


def by_hand(place: Place) -> list[str]:
    ssh = f"ssh -F {place.home}/.ssh/config -o KexAlgorithms=curve25519-sha256"
    return place.shell(f"seq {MOST_PODS} | xargs -P{MOST_PODS} -I{{}} {ssh} pod-{{}} true")


def measure(place: Place, rounds: int) -> Iterator[Figure]:
    assert place.idle
    place.remember(pods=MOST_PODS)
    ours, theirs = in_turns(
        rounds,
        lambda: run([place.pi, "list", "--all"], place.environ),
        lambda: run(by_hand(place), place.environ),
    )
    what = f"`pi list --all`, {MOST_PODS} pods"
    yield figure("6a", f"{what}: wall", BASELINE, [each.wall for each in ours], [each.wall for each in theirs], 0.8)
    yield figure(
        "6b", f"{what}: client's CPU", BASELINE, [each.cpu for each in ours], [each.cpu for each in theirs], 0.5
    )

"""A class that is completed late is the dataclass that it would have been, but for its slots."""

import dataclasses
import threading

import pytest

from pi_cli.lazy_dataclasses import dataclass, field


def made(decorate: object) -> type:
    class Point:
        """A point."""

        x: int
        y: int = 0
        names: list[str] = field(default_factory=list, repr=False)
        place: str = field(default="here", compare=False)

        @property
        def total(self) -> int:
            return self.x + self.y

    return decorate(Point)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize("is_frozen", [True, False], ids=["frozen", "mutable"])
def test_an_instance_is_that_of_a_dataclass(is_frozen: bool) -> None:
    point = made(dataclass(frozen=is_frozen, slots=True))
    one = point(1, y=2)
    assert repr(one).endswith("Point(x=1, y=2, place='here')")
    assert (one.total, one.names) == (3, [])
    assert one == point(1, 2, place="there") != point(2)
    assert dataclasses.replace(one, x=5).x == 5
    assert dataclasses.asdict(one) == {"x": 1, "y": 2, "names": [], "place": "here"}
    assert type(one).__match_args__ == ("x", "y", "names", "place")
    if is_frozen:
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.x = 2


def test_a_wrong_call_is_refused_the_first_time_and_later() -> None:
    point = made(dataclass(frozen=True, slots=True))
    for _ in range(2):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            point()
    assert point(1).y == 0


def test_threads_that_make_the_first_instances_make_the_same() -> None:
    point = made(dataclass(frozen=True, slots=True))
    barrier, points = threading.Barrier(8), []

    def make() -> None:
        barrier.wait()
        points.append(point(1, 2))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(points) == 8
    assert all(each == points[0] for each in points)

"""The same figure on a wire without length and on a long one (`tests/lab/wire.py`), with the round trips it takes.

Goals are for the long one: a machine on the other side of an ocean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.measure import Cost, Figure, figure, in_turns, ratio
from tests.lab.wire import Wire, round_trips

FAR = 0.1  # seconds for a round trip: from Europe to the east of North America
FARTHEST = 0.8  # seconds, for counting round trips: what a machine does itself is little beside it
TURNS = 3

Work = Callable[[], Cost]


@dataclass(frozen=True, slots=True)
class AtDistances:
    """A row of the table: `trips` are the round trips of ours and of the baseline, where they were counted."""

    near: Figure
    far: Figure
    trips: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Costs:
    """What works cost at the two distances, and their round trips where they were counted."""

    near: Mapping[str, Sequence[Cost]]
    far: Mapping[str, Sequence[Cost]]
    trips: Mapping[str, float]

    def row(
        self,
        number: str,
        what: str,
        ours: str,
        baseline: tuple[str, str],
        goal: float,
        *,
        value: Callable[[Cost], float] = lambda cost: cost.wall,
    ) -> AtDistances:
        """Hold one work to another; `baseline` is how the table calls that one, and its name here."""
        called, theirs = baseline
        near, far = (
            figure(number, what, called, [*map(value, costs[ours])], [*map(value, costs[theirs])], goal)
            for costs in (self.near, self.far)
        )
        counted = ours in self.trips and theirs in self.trips
        return AtDistances(near, far, (self.trips[ours], self.trips[theirs]) if counted else None)


def measured(way: Wire, rounds: int, works: Mapping[str, Work], *, counted: Sequence[str] = ()) -> Costs:
    """Do works in turns at both distances, and count the round trips of some."""

    def at(distance: float) -> dict[str, list[Cost]]:
        way.set(round_trip=distance)
        return dict(zip(works, in_turns(rounds, *works.values()), strict=True))

    near, far = at(0.0), at(FAR)
    turns, long = (TURNS, FARTHEST) if rounds > 1 else (1, 3 * FAR)
    trips = {
        name: round_trips(lambda work=works[name]: work().wall, way, turns=turns, long=long)  # type: ignore[misc]
        for name in counted
    }
    way.set()
    return Costs(near, far, trips)


def told(row: AtDistances) -> str:
    """Say one row in a line, while the others are measured."""
    near, far = row.near, row.far
    trips = f"; round trips {_trips(row)}" if row.trips else ""
    return f"{far.number}  {far.what}: near {near.ours}, {ratio(near)}; far {far.ours}, {ratio(far)}{trips}"


def table(rows: Sequence[AtDistances]) -> str:
    """Lay rows out as a Markdown table."""
    milliseconds = round(FAR * 1000)
    head = [
        f"| # | figure | baseline | round trips | at 0 ms | ratio | at {milliseconds} ms | ratio (8 of 10) | goal | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_line, rows)])


def _line(row: AtDistances) -> str:
    near, far = row.near, row.far
    cells = (
        far.number,
        far.what,
        far.baseline,
        _trips(row),
        f"{near.ours} : {near.theirs}",
        f"{near.ratio:.2f}",
        f"{far.ours} : {far.theirs}",
        ratio(far),
        f"≤ {far.goal:,g}",
        "reached" if far.is_reached else "missed",
    )
    return f"| {' | '.join(cells)} |"


def _trips(row: AtDistances) -> str:
    return "{:.1f} : {:.1f}".format(*row.trips) if row.trips else "-"

"""What work reports while it runs. The view draws these; tests collect them in a list."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """A pod entered a new phase of the work, named as people say it (`downloading`, `loading weights`)."""

    pod: str
    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """Text a remote program printed, in chunks as it came: any control characters are still in it."""

    pod: str
    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a download so far; `total` is None while it is unknown."""

    pod: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """One line worth knowing that is neither progress nor an error."""

    pod: str
    text: str


Event = Phase | Output | Progress | Note
Report = Callable[[Event], None]

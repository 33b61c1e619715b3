"""What work reports while it runs. The view draws these; tests collect them in a list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Phase:
    """A pod entered a new phase of the work, named as people say it (`downloading`, `loading weights`)."""

    pod: str
    text: str


StepState = Literal["began", "working", "waiting", "done", "skipped", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of setup began, said something meanwhile, or ended; `detail` is what it said last.

    `waiting`: it says what it waits for. `stopped`: it was ended, by us or because another step failed.
    """

    pod: str
    name: str
    title: str
    state: StepState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """Text a remote program printed, in chunks as it came: any control characters are still in it.

    In setup `step` is the step it belongs to, and the text is a line.
    """

    pod: str
    text: str
    step: str = ""


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


Event = Phase | Step | Output | Progress | Note
Report = Callable[[Event], None]

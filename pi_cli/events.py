"""What work reports while it runs. The view draws these; tests collect them in a list."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Phase:
    """A pod entered a new phase of the work, named as people say it (`downloading`, `loading weights`).

    `expected` is how many seconds it took the last time.
    """

    pod: str
    text: str
    expected: float | None = None


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
    """Bytes of a download so far; `total` is None while it is unknown.

    `by` is who downloads, if it is somebody else and this pod waits for it: "`dc2`", or "another start".
    """

    pod: str
    done: int
    total: int | None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One line worth knowing that is neither progress nor an error."""

    pod: str
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod is done while others may go on: `failure` says why it came to nothing, in one line."""

    pod: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Up:
    """A model can be reached at a URL of this machine, again `after` so many seconds."""

    pod: str
    name: str
    url: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Down:
    """A model cannot be reached for now; its port here lets go of whoever connects."""

    pod: str
    name: str
    url: str
    reason: str


Event = Phase | Step | Output | Progress | Note | Ended
Report = Callable[[Event], None]

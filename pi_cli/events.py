"""The progress events of a command. The view draws them; tests collect them in a list."""

from collections.abc import Callable
from typing import Literal

from pi_cli.lazy_dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """A pod entered a new phase; `text` is its name for users (`downloading`, `loading weights`).

    `expected` is the number of seconds that the phase took last time.
    """

    pod: str
    text: str
    expected: float | None = None


StepState = Literal["began", "working", "waiting", "done", "skipped", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of setup began, made progress or ended; `detail` is its latest message.

    `waiting`: the message says what it waits for. `stopped`: pi stopped it, or another step failed.
    """

    pod: str
    name: str
    title: str
    state: StepState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Announced:
    """What a running step of setup will download, in bytes, and how many seconds such a step takes: from, to."""

    pod: str
    name: str
    size: int | None
    seconds: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Counted:
    """What a step of setup has done so far: a number of a unit, e.g. `bytes`; `total` is None while it is unknown.

    `done` is None if there is nothing to count: the step still runs.
    """

    pod: str
    name: str
    done: int | None = None
    total: int | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """Output of a remote program, in chunks as received: control characters are still in it.

    During setup, the text is one line, and `step` is the step that printed it.
    """

    pod: str
    text: str
    step: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes downloaded so far; `total` is None while it is unknown.

    `by` is set if this pod waits for a download of another one: "`dc2`", or "another start". `is_compiling`: vLLM
    compiles meanwhile.
    """

    pod: str
    done: int
    total: int | None
    by: str = ""
    is_compiling: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """One line of information that is neither progress nor an error; `is_reason`: it only says why pi plans so."""

    pod: str
    text: str
    is_reason: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A pod has finished, other pods may still be working; `failure` is the reason if it failed, in one line."""

    pod: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Up:
    """A model can be reached at a URL on this machine; `after` is the length of the outage before, in seconds."""

    pod: str
    name: str
    url: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Down:
    """A model cannot be reached at the moment; its local port closes every connection."""

    pod: str
    name: str
    url: str
    reason: str


Event = Phase | Step | Announced | Counted | Output | Progress | Note | Ended
Report = Callable[[Event], None]

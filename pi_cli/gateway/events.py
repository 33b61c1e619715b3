"""What happens to a gateway, for the user."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Serving:
    """The gateway answers at `url`; `after` is the length of the outage before, in seconds."""

    url: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """A model on a pod gets requests now; `context` is in tokens, `after` is the length of its outage, in seconds."""

    pod: str
    name: str
    context: int | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Left:
    """A model on a pod gets no requests at the moment, or none yet."""

    pod: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model that was asked for is not served, though it may run."""

    pod: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PodAway:
    """A pod on which no model is known cannot be reached."""

    pod: str
    reason: str


Change = Literal["added", "replaced", "renamed", "removed", "retried"]


@dataclass(frozen=True, slots=True)
class PodChanged:
    """A pod on pi's list is another one than before; `was` is the former name of a renamed one."""

    pod: str
    change: Change
    was: str | None = None


@dataclass(frozen=True, slots=True)
class BalancerEnded:
    """The balancer has ended by itself, and is started again."""

    how: str


Event = Serving | Joined | Left | LeftOut | PodAway | PodChanged | BalancerEnded
Report = Callable[[Event], None]

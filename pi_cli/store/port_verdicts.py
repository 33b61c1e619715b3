"""Which models have answered at their public ports, stored in `ports.json`: what the next list shows meanwhile.

Nothing in it is a secret, and no key is sent because of it.
"""

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from pi_cli.errors import PiError
from pi_cli.store import paths, rows

FRESH = 300.0  # seconds for which a verdict is not written again, and is shown without its age
MAX_AGE = 24 * 3600.0  # seconds; what is older counts as not known


class Place(NamedTuple):
    """The public port of one launch of a model."""

    pod: str
    host: str
    port: int
    uid: str


@dataclass(frozen=True, slots=True)
class PortVerdict:
    """Whether a model has proved itself at its public port, and when: `at` is in seconds since 1970."""

    pod: str
    host: str
    port: int
    uid: str
    answers: bool
    at: float

    @property
    def place(self) -> Place:
        return Place(self.pod, self.host, self.port, self.uid)

    @property
    def age(self) -> float | None:
        """Seconds since then; None if it is too old to be used, or from a clock that was wrong."""
        age = time.time() - self.at
        return max(age, 0.0) if -1.0 < age < MAX_AGE else None

    def is_about_the_same(self, other: "PortVerdict") -> bool:
        return self.place == other.place


def found(place: Place, *, answers: bool) -> PortVerdict:
    """Return what was found out now."""
    return PortVerdict(*place, answers=answers, at=time.time())


def load() -> list[PortVerdict]:
    return rows.read(_path(), _verdict)


def remember(new: Sequence[PortVerdict], *, forget: Callable[[PortVerdict], bool]) -> None:
    """Store verdicts; remove those that `forget` is true for."""
    places = {verdict.place for verdict in new}
    _change(lambda known: [each for each in known if each.place not in places and not forget(each)] + [*new])


def forget(pod: str, uids: Collection[str | None] | None = None) -> None:
    """Remove what is known of a pod, or of these launches on it."""
    if any(_is_of(each, pod, uids) for each in load()):
        _change(lambda known: [each for each in known if not _is_of(each, pod, uids)])


def rename_pod(pod: str, new: str) -> None:
    if any(each.pod == pod for each in load()):
        _change(lambda known: [replace(each, pod=new) if each.pod == pod else each for each in known])


def _is_of(verdict: PortVerdict, pod: str, uids: Collection[str | None] | None) -> bool:
    return verdict.pod == pod and (uids is None or verdict.uid in uids)


def _change(changed: Callable[[list[PortVerdict]], list[PortVerdict]]) -> None:
    with suppress(PiError):  # it is not worth an error
        rows.change(_path(), changed, _verdict)


def _path() -> Path:
    return paths.config_dir() / "ports.json"


def _verdict(row: dict[str, Any]) -> PortVerdict | None:
    """Parse a row; None if it is from a newer pi, or invalid after an edit by hand."""
    try:
        found = PortVerdict(**{field.name: row[field.name] for field in fields(PortVerdict)})
    except KeyError:
        return None
    texts = (found.pod, found.host, found.uid)
    is_valid = all(isinstance(text, str) for text in texts) and isinstance(found.answers, bool)
    is_valid = is_valid and type(found.port) is int and 0 < found.port < 1 << 16  # no booleans
    return found if is_valid and type(found.at) in (int, float) else None

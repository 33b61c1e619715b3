"""How long the phases of starts took: kept in `starts.json`, and said when the same model starts again."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pi_cli.store import paths, rows


@dataclass(frozen=True, slots=True)
class StartTimes:
    """The last start of a model on `count` GPUs of a kind: seconds from launch to ready, and of each phase by name."""

    model: str
    gpu: str
    count: int
    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)

    def is_of_the_same(self, other: "StartTimes") -> bool:
        return (self.model.lower(), self.gpu, self.count) == (other.model.lower(), other.gpu, other.count)


def last(model: str, gpu: str, count: int) -> StartTimes | None:
    """Return the times of the last such start. A file that cannot be read holds nothing."""
    wanted = StartTimes(model, gpu, count, 0.0)
    return next((each for each in rows.read(_path(), _times) if each.is_of_the_same(wanted)), None)


def add(new: StartTimes) -> None:
    """Keep the times of a start in place of those of the one before."""
    rows.add(_path(), new, _times)


def _path() -> Path:
    return paths.config_dir() / "starts.json"


def _times(row: dict[str, Any]) -> StartTimes | None:
    """Read a row; one of a newer pi, or edited by hand into nonsense, is left out."""
    names = {each.name for each in fields(StartTimes)}
    try:
        read = StartTimes(**{name: value for name, value in row.items() if name in names})
        phases = {str(name): float(seconds) for name, seconds in read.phases.items()}
        return StartTimes(str(read.model), str(read.gpu), int(read.count), float(read.seconds), phases)
    except (TypeError, ValueError, AttributeError):
        return None

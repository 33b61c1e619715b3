"""How long the phases of starts took: stored in `starts.json`, and shown when the same model is started again."""

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

    def is_about_the_same(self, other: "StartTimes") -> bool:
        return (self.model.lower(), self.gpu, self.count) == (other.model.lower(), other.gpu, other.count)


def last(model: str, gpu: str, count: int) -> StartTimes | None:
    """Return the times of the last start of a model on these GPUs; None if they are not known."""
    wanted = StartTimes(model, gpu, count, 0.0)
    return next((times for times in rows.read(_path(), _times) if times.is_about_the_same(wanted)), None)


def add(new: StartTimes) -> None:
    """Store the times of a start; they replace those of the previous start."""
    rows.add(_path(), new, _times)


def _path() -> Path:
    return paths.config_dir() / "starts.json"


def _times(row: dict[str, Any]) -> StartTimes | None:
    """Parse a row; None if it is from a newer pi, or invalid after an edit by hand."""
    names = {field.name for field in fields(StartTimes)}
    try:
        times = StartTimes(**{name: value for name, value in row.items() if name in names})
        phases = {str(name): float(seconds) for name, seconds in times.phases.items()}
        return StartTimes(str(times.model), str(times.gpu), int(times.count), float(times.seconds), phases)
    except (TypeError, ValueError, AttributeError):
        return None

"""The memory that vLLM logged at earlier starts: stored in `measured.json`, and used by the next plan."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pi_cli.store import paths, rows


@dataclass(frozen=True, slots=True)
class Measurement:
    """One start: the model, the GPUs, the version of vLLM, the predicted and the measured memory.

    `not_kv_cache` and `kv_cache` are in GiB per GPU, `tokens` is the size of the KV cache in tokens. `not_kv_cache` is
    vLLM's share of the memory minus the KV cache. A prediction is None if there was none.
    """

    model: str
    gpu: str
    count: int
    tensor: int
    vllm: str
    not_kv_cache: float
    kv_cache: float
    tokens: int
    predicted_kv_cache: float | None = None
    predicted_tokens: int | None = None

    @property
    def error(self) -> float | None:
        """Return the error of the prediction as a share of the measured tokens; above 0.0, it was too high."""
        return self.predicted_tokens / self.tokens - 1 if self.predicted_tokens and self.tokens else None

    def is_about_the_same(self, other: "Measurement") -> bool:
        return (self.model.lower(), self.gpu, self.count, self.tensor, self.vllm) == (
            other.model.lower(), other.gpu, other.count, other.tensor, other.vllm,
        )  # fmt: skip


def load(model: str | None = None) -> list[Measurement]:
    """Return the measurements of one model or of all, oldest first; none if the file cannot be read."""
    stored = rows.read(_path(), _measurement)
    return [row for row in stored if model is None or row.model.lower() == model.lower()]


def add(new: Measurement) -> None:
    """Store a measurement; it replaces an earlier one of the same model, GPUs and version."""
    rows.add(_path(), new, _measurement)


def _path() -> Path:
    return paths.config_dir() / "measured.json"


def _measurement(row: dict[str, Any]) -> Measurement | None:
    """Parse a row; None if it is from a newer pi, or invalid after an edit by hand."""
    names = {field.name for field in fields(Measurement)}
    try:
        measurement = Measurement(**{name: value for name, value in row.items() if name in names})
        is_valid = measurement.tokens > 0 and measurement.not_kv_cache > 0 and isinstance(measurement.model, str)
    except TypeError:
        return None
    return measurement if is_valid else None

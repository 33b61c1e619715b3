"""What vLLM said of a model's memory when it started: kept in `measured.json`, and used by the next plan."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pi_cli.store import paths, rows


@dataclass(frozen=True, slots=True)
class Measurement:
    """One start: which model on which GPUs with which vLLM, and what was predicted against what was real.

    Memory is in GiB per GPU, KV cache in tokens; a prediction is None where there was none. `not_kv_cache` is what vLLM
    was given less what it had left for the KV cache.
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
        """Return how far the prediction was off, as a share of the real number of tokens; above 0.0: too many."""
        return self.predicted_tokens / self.tokens - 1 if self.predicted_tokens and self.tokens else None

    def is_of_the_same(self, other: "Measurement") -> bool:
        return (self.model.lower(), self.gpu, self.count, self.tensor, self.vllm) == (
            other.model.lower(), other.gpu, other.count, other.tensor, other.vllm,
        )  # fmt: skip


def load(model: str | None = None) -> list[Measurement]:
    """Return what was measured, of one model or of all, oldest first. A file that cannot be read holds nothing."""
    found = rows.read(_path(), _measurement)
    return [each for each in found if model is None or each.model.lower() == model.lower()]


def add(new: Measurement) -> None:
    """Keep a measurement in place of an earlier one of the same model, GPUs and version."""
    rows.add(_path(), new, _measurement)


def _path() -> Path:
    return paths.config_dir() / "measured.json"


def _measurement(row: dict[str, Any]) -> Measurement | None:
    """Read a row; one of a newer pi, or edited by hand into nonsense, is left out."""
    names = {field.name for field in fields(Measurement)}
    try:
        read = Measurement(**{name: value for name, value in row.items() if name in names})
        return read if read.tokens > 0 and read.not_kv_cache > 0 and isinstance(read.model, str) else None
    except TypeError:
        return None

"""What vLLM said of a model's memory when it started: kept in `measured.json`, and used by the next plan."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pi_cli.store import files, paths

MOST_KEPT = 500  # starts; the oldest go


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
    found = list(_read(_path()))
    return [each for each in found if model is None or each.model.lower() == model.lower()]


def add(new: Measurement) -> None:
    """Keep a measurement in place of an earlier one of the same model, GPUs and version."""
    path = _path()
    with files.locked(path):
        kept = [each for each in _read(path) if not each.is_of_the_same(new)]
        rows = [asdict(each) for each in [*kept, new][-MOST_KEPT:]]
        files.replace(path, json.dumps(rows, indent=1) + "\n")


def _path() -> Path:
    return paths.config_dir() / "measured.json"


def _read(path: Path) -> Iterable[Measurement]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and (read := _measurement(row)):
            yield read


def _measurement(row: dict[str, Any]) -> Measurement | None:
    """Read a row; one of a newer pi, or edited by hand into nonsense, is left out."""
    names = {field.name for field in fields(Measurement)}
    try:
        read = Measurement(**{name: value for name, value in row.items() if name in names})
        return read if read.tokens > 0 and read.not_kv_cache > 0 and isinstance(read.model, str) else None
    except TypeError:
        return None

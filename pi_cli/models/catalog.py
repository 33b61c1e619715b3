"""Read `models.md`: prose for people, one fenced TOML block per model for us."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi_cli.store import paths
from pi_cli.store.records import Gpu

BLOCK = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A way to run a model: `gpus` are parts of names as nvidia-smi prints them, or `any`."""

    gpus: tuple[str, ...]
    count: int
    args: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    notes: str = ""
    source: str = ""

    def suits(self, gpus: Sequence[Gpu]) -> bool:
        return self.count <= len(gpus) and all(self._names(gpu) for gpu in gpus)

    def _names(self, gpu: Gpu) -> bool:
        return any(part == "any" or re.search(rf"\b{re.escape(part)}\b", gpu.name) for part in self.gpus)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model of the catalogue."""

    id: str
    hardware: tuple[Configuration, ...]
    weights_gb: float
    min_vllm: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None

    def best_for(self, gpus: Sequence[Gpu]) -> Configuration | None:
        """Return the configuration with the fewest GPUs that suits a pod."""
        suitable = [configuration for configuration in self.hardware if configuration.suits(gpus)]
        return min(suitable, key=lambda configuration: configuration.count, default=None)


def read(text: str) -> Iterator[Entry]:
    """Yield the entries of a catalogue. Raises `ValueError` (or `KeyError`, `TypeError`) for a block that is wrong."""
    for block in BLOCK.findall(text):
        yield _entry(tomllib.loads(block))


def find(model: str) -> Entry | None:
    """Return the catalogue's entry for a Hugging Face id, in any spelling of case."""
    text = paths.asset("models.md").read_text(encoding="utf-8")
    return next((entry for entry in read(text) if entry.id.lower() == model.lower()), None)


def _entry(data: dict[str, Any]) -> Entry:
    hardware = tuple(
        Configuration(**{**item, "gpus": tuple(item["gpus"]), "args": tuple(item["args"])})
        for item in data.pop("hardware")
    )
    return Entry(hardware=hardware, **data)

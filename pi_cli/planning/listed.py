"""The ids and sizes of the catalogue's models, for completion: found by a pattern, which is faster than parsing."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pi_cli.store import paths
from pi_cli.store.records import Gpu

FILE = "models.md"
RECIPES = "catalogue/recipes.json"
ID = re.compile(r"[\w./-]+", re.ASCII)
KEY = re.compile(
    r"""^[ \t]*(?:id[ \t]*=[ \t]*["']([\w./-]+)["']|weights_gb[ \t]*=[ \t]*(\d+(?:\.\d+)?))[ \t]*(?:#.*)?$""",
    re.MULTILINE | re.ASCII,
)
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?GB")


@dataclass(frozen=True, slots=True)
class Listed:
    """A model of the catalogue: its id, and the size of its weights in GB; 0 if that is not known."""

    id: str
    weights: float

    def begins_with(self, text: str) -> bool:
        return any(spelling.startswith(text) for spelling in self.all_spellings())

    def spellings(self, begun: str) -> Iterator[str]:
        """Yield the id if it begins with a text, or else the short name that does: shells drop all others."""
        yield from [spelling for spelling in self.all_spellings() if spelling.startswith(begun)][:1]

    def all_spellings(self) -> tuple[str, ...]:
        name = self.id.rpartition("/")[2]
        return self.id, name, name.lower()


def models() -> list[Listed]:
    """Return the models of the user's own catalogue and of ours. A file that cannot be read counts as empty."""
    found: dict[str, Listed] = {}
    for path in (paths.config_dir() / FILE, paths.asset(FILE)):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        id = ""
        for key in KEY.finditer(text):
            id = key[1] or id
            found.setdefault(id.lower(), Listed(id, float(key[2]) if key[2] else 0.0))
            if key[2] and not found[id.lower()].weights:
                found[id.lower()] = Listed(id, float(key[2]))
    for id in _in_recipes():
        found.setdefault(id.lower(), Listed(id, 0.0))
    return list(found.values())


def _in_recipes() -> list[str]:
    """Return the ids of the models in the recipes that `pi models update` stored, without checking those."""
    try:
        documents = json.loads((paths.config_dir() / RECIPES).read_text(encoding="utf-8"))["documents"]
        ids = [row["recipe"]["id"] for row in documents.values() if row["recipe"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []
    return [id for id in ids if isinstance(id, str) and ID.fullmatch(id)]


def total_memory(gpus: Sequence[Gpu]) -> float | None:
    """Return the memory of all GPUs in GB; None if it is not known."""
    sizes = [float(size[1]) for gpu in gpus if (size := SIZE.search(gpu.memory))]
    return sum(sizes) or None

"""What we know of a model before it is planned: from the catalogue, from the Hub, from earlier starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pi_cli.planning.catalogue import Entry
from pi_cli.planning.fit import MeasuredMemory, ModelShape

FOLDERS = ("/", "./", "../", "~")


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """A model as far as it is known; `unknown` says what is not, and why.

    `tool_call_parser` and `reasoning_parser` are set where the architecture has them. `measured` is what earlier starts
    told, by (kind of GPU, number of GPUs). `files` is the size of the whole download in bytes, if the Hub was asked.
    """

    id: str
    entry: Entry | None = None
    shape: ModelShape | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    unknown: str | None = None
    measured: Mapping[tuple[str, int], MeasuredMemory] = field(default_factory=dict)
    files: int | None = None

    @property
    def max_context(self) -> int | None:
        """Return the longest context that the model itself has, in tokens."""
        return self.shape.architecture.max_context if self.shape and self.shape.architecture else None


def is_folder(model: str) -> bool:
    """Tell whether a model is a folder on the pod, and not a repository of the Hub."""
    return model.startswith(FOLDERS)

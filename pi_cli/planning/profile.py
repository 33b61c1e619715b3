"""What is known of a model before it is planned: from the catalogue, from the Hub, from earlier starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pi_cli.planning.abilities import Vllm
from pi_cli.planning.catalogue import Entry
from pi_cli.planning.fit import MeasuredMemory, ModelShape

FOLDER_PREFIXES = ("/", "./", "../", "~")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose weights are known in size and type.

    `entry` is set for a model of the catalogue, the parsers where the architecture has them. `unknown` says why the
    shape has no architecture. `measured` is what earlier starts measured, by (kind of GPU, number of GPUs). `files` is
    the size of the whole download in bytes, if the Hub was asked. `vllm` is the vLLM that is to run it.
    """

    id: str
    shape: ModelShape
    entry: Entry | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    unknown: str | None = None
    measured: Mapping[tuple[str, int], MeasuredMemory] = field(default_factory=dict)
    files: int | None = None
    vllm: Vllm = field(default_factory=Vllm)

    @property
    def min_vllm(self) -> str | None:
        """Return the first version of vLLM that runs it, if that is known."""
        return self.entry.min_vllm if self.entry else None

    def on(self, vllm: Vllm) -> "KnownModel":
        """Return the model for a start on a pod with this default vLLM."""
        return replace(self, vllm=vllm.for_model(self.min_vllm))

    @property
    def max_context(self) -> int | None:
        """Return the longest context that the model supports, in tokens."""
        return self.shape.architecture.max_context if self.shape.architecture else None


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """A model whose size is not known; `reason` says why. vLLM may be able to serve it all the same."""

    id: str
    reason: str | None = None
    files: int | None = None

    def on(self, vllm: Vllm) -> "UnknownModel":  # noqa: ARG002
        """Return the model itself: nothing is planned that depends on the vLLM."""
        return self


ModelProfile = KnownModel | UnknownModel


def is_folder(model: str) -> bool:
    """Return whether a model is a folder on the pod instead of a repository of the Hub."""
    return model.startswith(FOLDER_PREFIXES)

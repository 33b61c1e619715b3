"""What is known of a model before it is planned: from the catalogue, from the Hub, from earlier starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pi_cli.planning.catalogue import Entry
from pi_cli.planning.fit import MeasuredMemory, ModelShape
from pi_cli.vllm.abilities import Vllm
from pi_cli.vllm.kinds import Kind

FOLDER_PREFIXES = ("/", "./", "../", "~")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose weights are known in size and type.

    `entry` is set for a model of the catalogue, the parsers where the architecture has them. `unknown` says why the
    KV cache is not known. `measured` is what earlier starts measured, by (kind of GPU, number of GPUs). `files` is
    the size of the whole download in bytes, if the Hub was asked. `kind` is what the model is for. `vllm` is the vLLM
    that is to run it.

    A model that is not in the catalogue has `arguments`, `environment` and `min_vllm` from the one that it was made
    from. `notes` are lines for the plan: what it has from there, and what is not certain.
    """

    id: str
    shape: ModelShape
    entry: Entry | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    unknown: str | None = None
    measured: Mapping[tuple[str, int], MeasuredMemory] = field(default_factory=dict)
    files: int | None = None
    kind: Kind = "generation"
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    min_vllm: str | None = None
    notes: tuple[str, ...] = ()
    vllm: Vllm = field(default_factory=Vllm)

    @property
    def needed_vllm(self) -> str | None:
        """Return the oldest version of vLLM that can serve the model, if that is known."""
        return self.entry.min_vllm if self.entry else self.min_vllm

    def on(self, vllm: Vllm) -> "KnownModel":
        """Return the model for a start on a pod with this default vLLM."""
        return replace(self, vllm=vllm.for_model(self.needed_vllm))

    @property
    def max_context(self) -> int | None:
        """Return the longest context that the model supports, in tokens."""
        return self.shape.architecture.max_context or None if self.shape.architecture else None


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """A model whose size is not known; `reason` says why. vLLM may be able to serve it all the same.

    `notes` are lines for the plan: what is not certain.
    """

    id: str
    reason: str | None = None
    files: int | None = None
    kind: Kind = "generation"
    notes: tuple[str, ...] = ()

    def on(self, vllm: Vllm) -> "UnknownModel":  # noqa: ARG002
        """Return the model itself: nothing is planned that depends on the vLLM."""
        return self


ModelProfile = KnownModel | UnknownModel


def is_folder(model: str) -> bool:
    """Return whether a model is a folder on the pod instead of a repository of the Hub."""
    return model.startswith(FOLDER_PREFIXES)

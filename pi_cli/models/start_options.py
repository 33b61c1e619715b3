"""The options of `pi start` as one value, from the command line to the pod."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.planning.candidates import Constraints
from pi_cli.store.keys import ApiKey

if TYPE_CHECKING:
    from pi_cli.models.local_files import Upload


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values that are sent to a pod on stdin only.

    `key` is the key that pi itself uses; `other_keys` are accepted too.
    """

    key: ApiKey
    hf_token: str | None = None
    hf_endpoint: str | None = None
    other_keys: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Secrets(…)"


@dataclass(frozen=True, slots=True)
class Across:
    """The pods of one model over several, the head first.

    `is_anyway`: a connection that is too slow is no reason to refuse; `is_insecure`: nor is a public network.
    """

    pods: tuple[str, ...]
    is_anyway: bool = False
    is_insecure: bool = False


@dataclass(frozen=True, slots=True)
class StartOptions:
    """A start on any number of pods.

    `command` is the command line, for hints; `constraints` limit the plan. Without `wait`, the start returns once vLLM
    is launched; with it, it fails after `timeout` seconds. A `private` model listens on the pod's loopback only.
    `uploads` are files of this machine that the arguments name. With a `lease`, the pod ends the model after so many
    seconds without work, and `then` stops itself. With `across`, it is one model over several pods.
    `clean_cache`: vLLM's compile caches are deleted before the launch. `warm_up`: vLLM compiles while the model is
    downloaded. `fix`: if the start fails, what its diagnosis offers is tried (`models.fixing`). With `needs_url`, it
    is found out before the end whether the model answers at its public port.
    """

    command: StartCommand
    constraints: Constraints
    secrets: Secrets
    wait: bool = True
    timeout: float | None = None
    private: bool = False
    uploads: "tuple[Upload, ...]" = ()
    clean_cache: bool = False
    fix: bool = False
    warm_up: bool = True
    lease: float | None = None
    then: Literal["stop-pod"] | None = None
    across: "Across | None" = None
    needs_url: bool = False

    @property
    def name(self) -> str:
        return self.command.name

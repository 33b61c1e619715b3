"""The options of `pi start` as one value, from the command line to the pod."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
class StartOptions:
    """A start on any number of pods.

    `command` is the command line, for hints; `constraints` limit the plan. Without `wait`, the start returns once vLLM
    is launched; with it, it fails after `timeout` seconds. A `private` model listens on the pod's loopback only.
    `uploads` are files of this machine that the arguments name.
    """

    command: StartCommand
    constraints: Constraints
    secrets: Secrets
    wait: bool = True
    timeout: float | None = None
    private: bool = False
    uploads: "tuple[Upload, ...]" = ()

    @property
    def name(self) -> str:
        return self.command.name

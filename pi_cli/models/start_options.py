"""What `pi start` was asked for, as one value from the command line to the pod."""

from dataclasses import dataclass

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.planning.candidates import Constraints


@dataclass(frozen=True, slots=True)
class Secrets:
    """What travels to a pod on stdin only.

    `other_keys` are accepted besides the one that pi itself uses, which the local variable `key_variable` holds.
    """

    api_key: str
    hf_token: str | None = None
    hf_endpoint: str | None = None
    other_keys: tuple[str, ...] = ()
    key_variable: str | None = None

    def __repr__(self) -> str:
        return "Secrets(…)"


@dataclass(frozen=True, slots=True)
class StartOptions:
    """A start on any number of pods.

    `command` is the command line, for hints; the plan keeps to the `constraints`. Without `wait` the start returns once
    vLLM is launched; it fails after `timeout` seconds. A `private` model listens on the pod's loopback only.
    """

    command: StartCommand
    constraints: Constraints
    secrets: Secrets
    wait: bool = True
    timeout: float | None = None
    private: bool = False

    @property
    def name(self) -> str:
        return self.command.name

"""The errors that pi shows to users. Raised anywhere, printed in one place (`commands/main.py`).

PiError                 exit 1
├── BadUsage            exit 2   the command line or the environment is wrong; nothing was started
│   ├── ImpossibleLimit exit 2   `--max-tokens` is more than the model can answer with (`pi_cli/chat/client.py`)
│   ├── NotSet          exit 2   variables that hold secrets are not set
│   └── DoesNotFit      exit 2   a model cannot run on the chosen GPUs, even if they are empty
├── PodUnreachable      exit 3   no connection: name, network, login
│   ├── HostKeyChanged  exit 3   the host key is not the recorded one
│   └── PodHangs        exit 3   it answers SSH, but its agent sends nothing (`pi_cli/pods/agent_link.py`)
├── ModelNotStarted     exit 4   vLLM or its download failed; carries the end of the log
│   └── Diagnosed       exit 4   with its cause and what it offers (`pi_cli/models/start_errors.py`)
├── NoRoom              exit 4   a model would fit the GPUs, but their memory is in use
├── NoAnswer            exit 6   the model was asked, and gave no answer
│   └── ModelStalled    exit 6   it takes requests, and answers none: its engine hangs
├── StateUnreadable     exit 5   `pods.json` cannot be read or written
├── AgentRefused        exit 1   the agent on the pod refused the request (`pi_cli/pods/wording.py`)
├── NotUnderstood       exit 1   a pod sent an answer that pi cannot parse (`pi_cli/pods/agent_link.py`)
├── HubUnreachable      exit 1   the Hugging Face Hub gave no answer (`pi_cli/hub/hub_api.py`)
├── NotFetched          exit 1   the vLLM recipes could not be fetched (`pi_cli/planning/recipe_site.py`)
├── ToolsNotServed      exit 1   the model was started without tools (`pi_cli/chat/client.py`)
├── ConnectionLost      exit 1   the connection to the model, or an answer in the middle (`pi_cli/chat/client.py`)
├── RequestFailed       exit 1   the model's server refused a request, or failed at it (`pi_cli/chat/client.py`)
├── RouteNotServed      exit 1   the server has no such route: another kind of model (`pi_cli/chat/client.py`)
├── TooLong             exit 1   the conversation exceeds the model's context (`pi_cli/chat/client.py`)
├── Bug                 exit 1   an exception that pi does not handle
├── PodsFailed          exit n   some of several pods failed: the highest of their codes
└── other errors        exit 1   raised as a plain `PiError`
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, Self


class PiError(Exception):
    """An error for the user: what happened, and a hint with the command to run next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def with_hint(self, hint: str) -> Self:
        """Set the hint, for callers that know more about it than the code that raised the error; return the error."""
        self.hint = hint
        return self


class BadUsage(PiError):
    """The command line or the environment is wrong; nothing was started on a pod.

    `excerpt` shows the typed text, and below it a mark at the part at fault.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None, excerpt: str = "") -> None:
        super().__init__(message, hint=hint)
        self.excerpt = excerpt


class NotSet(BadUsage):
    """Variables that hold secrets are not set, and nothing else has the secrets."""

    def __init__(self, names: Sequence[str], *, hint: str) -> None:
        super().__init__(f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not set", hint=hint)
        self.names = tuple(names)


class DoesNotFit(BadUsage):
    """A model cannot run on a pod's GPUs as requested, even if they are empty; nothing was downloaded."""


class PodUnreachable(PiError):
    """Connecting or logging in to a pod failed. pi never removes an entry because of it.

    `may_be_gone`: the machine may have been terminated, so hints also say how to remove the pod.
    """

    exit_code = 3
    may_be_gone: ClassVar[bool] = True

    def __init__(self, pod: str, reason: object, *, hint: str | None = None) -> None:
        from pi_cli.safe import safe  # not at the top: few commands fail, and it takes the regular expressions

        if hint is None:
            from pi_cli.hints import fill

            hint = fill("check that the machine is running, or forget it with `pi pods remove {pod}`", pod=pod)
        super().__init__(f"cannot reach pod `{pod}`: {safe(str(reason))}", hint=hint)  # often the server's own words
        self.pod = pod


class HostKeyChanged(PodUnreachable):
    """The pod presents another host key than the one recorded at setup. No command was sent."""

    may_be_gone = False

    def __init__(self, pod: str, *, known: str, shown: str, ssh: str, key_label: str = "its host key") -> None:
        from pi_cli.hints import fill

        accept = "if you recreated it, accept the new key with `pi pods setup {pod} {ssh} --accept-new-host-key`"
        super().__init__(
            pod,
            f"{key_label} changed (known {known}, now {shown}): "
            "either the machine was recreated, or the connection is being intercepted",
            hint=fill(accept, pod=pod, ssh=ssh),
        )


class ModelNotStarted(PiError):
    """A model did not start. `log` has the last lines of vLLM's or `hf download`'s output, verbatim.

    `facts` say how far the start had come, and what the log says about the GPU memory.
    """

    exit_code = 4

    def __init__(self, message: str, *, hint: str | None = None, log: str = "", facts: str = "") -> None:
        super().__init__(message, hint=hint)
        self.log, self.facts = log, facts


class GpuProcess(NamedTuple):
    """A process that uses `used` MiB of a GPU, as nvidia-smi reports it."""

    pid: int
    program: str
    used: int


class HeldGpu(NamedTuple):
    """A GPU with `used` of `total` MiB in use, by models that pi started or, if they are known, other `processes`."""

    id: int
    used: int
    total: int
    models: tuple[str, ...] = ()
    processes: tuple[GpuProcess, ...] = ()


class NoAnswer(PiError):
    """A model was asked, and gave no answer."""

    exit_code = 6


class ModelStalled(NoAnswer):
    """A model takes requests and answers none: its server lives, and its engine hangs."""

    def __init__(self, model: str, *, hint: str | None = None) -> None:
        super().__init__(f"`{model}` is stalled: it takes requests, and its engine answers none", hint=hint)


class NoRoom(PiError):
    """A pod's GPUs could run a model, but their memory is in use; nothing was downloaded.

    `held` are the GPUs in use, if they are known, and `model` is the model that did not fit. `share_left` is the
    largest share of the memory that the user's own arguments could request, if they were given.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        model: str = "",
        held: tuple[HeldGpu, ...] = (),
        share_left: float = 0.0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.model, self.held, self.share_left = model, held, share_left

    @property
    def unexplained(self) -> tuple[HeldGpu, ...]:
        """Return the GPUs on which pi has started no model."""
        return tuple(gpu for gpu in self.held if not gpu.models)


class StateUnreadable(PiError):
    """`pods.json` cannot be read or written; it was not changed."""

    exit_code = 5


class Bug(PiError):
    """pi raised an exception that it does not handle; the file `log` has the traceback."""

    def __init__(self, exception: str, *, activity: str, log: str) -> None:
        super().__init__(
            f"this is a bug in pi{f', while {activity}' if activity else ''}: {exception}",
            hint=f"please report it, with {log}; `PI_DEBUG=1` before the command writes more into that file",
        )


class PodsFailed(PiError):
    """Some of several pods failed; the others finished."""

    def __init__(self, failures: Mapping[str, PiError]) -> None:
        super().__init__(f"failed on {', '.join(f'`{pod}`' for pod in failures)}")
        self.failures = dict(failures)
        self.exit_code = max(error.exit_code for error in failures.values())


def raise_any(failures: Mapping[str, PiError]) -> None:
    """Raise the error of the only pod that failed, or one `PodsFailed` for several."""
    if len(failures) == 1:
        raise next(iter(failures.values()))
    if failures:
        raise PodsFailed(failures)

"""What runs on a pod, as one value: its GPUs, driver and vLLM, and how each of its models was started.

`look` asks a pod, with two requests over one login. All else is pure.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.fleet import values
from pi_cli.models import model_status
from pi_cli.models.local_files import ON_POD
from pi_cli.pods import agent, machine
from pi_cli.pods.machine import Machine
from pi_cli.pods.reports import Build, Launch, Launches, RunningModel
from pi_cli.ssh.session import PodSession
from pi_cli.store.records import Pod
from pi_cli.vllm import vllm_arguments

if TYPE_CHECKING:
    from agent import protocol

HIDDEN = "***"  # in place of a secret among arguments
UPLOADS = re.compile(r"""[^\s"'=,{}\[\]]{0,4096}/\.pi/uploads/(?=[0-9a-f]{32})""")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """How a model was started; `arguments` is None for one that pi did not start, of which nothing else is known.

    `origins` has one for each argument, or is empty if an older pi started it. `variables` are what the plan added to
    the environment, `given` the names of the user's own, and `gpus` is a number. Uploaded files have the places of
    `local_files.ON_POD`, and secrets are hidden.
    """

    model: str
    gpus: int = 0
    arguments: tuple[str, ...] | None = None
    origins: "tuple[protocol.Origin, ...]" = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    commit: str | None = None
    vllm: str | None = None
    private: bool = False

    @property
    def has_secret(self) -> bool:
        return any(HIDDEN in argument for argument in self.arguments or ())


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A machine and its models. `gpus` are the names of nvidia-smi, by id; `cuda` is the newest that the driver knows.

    `made_from` is what setup was told to install, `wheel` the name of what was, `files` the SHA-256 of the list of its
    files, and `torch` its version of torch.
    """

    gpus: tuple[str, ...] = ()
    driver: str | None = None
    cuda: str | None = None
    vllm: str | None = None
    made_from: str | None = None
    wheel: str | None = None
    files: str | None = None
    torch: str | None = None
    models: Mapping[str, ModelFacts] = field(default_factory=dict)


Reality = Mapping[str, PodFacts]
"""The pods that have answered, by name."""


async def look(session: PodSession, pod: Pod) -> PodFacts:
    """Ask a pod what it has and what runs there; change nothing. It need not be set up."""
    current = await machine.inspect(session, model_status.known(pod.models), ask_cuda=not pod.is_cpu)
    return of(current, await agent.launches(session))


def of(current: Machine, said: Launches) -> PodFacts:
    """Return the facts about a pod from its two answers."""
    build = next((build for build in said.builds if build.version == current.vllm), Build("", None, None, None, None))
    launches = {launch.uid: launch for launch in said.launches}
    known = current.cuda.version if current.cuda else 0
    return PodFacts(
        gpus=tuple(gpu.name for gpu in sorted(current.gpus, key=lambda gpu: gpu.id)),
        driver=current.driver,
        cuda=f"{known // 1000}.{known % 1000 // 10}" if known else None,
        vllm=current.vllm,
        made_from=build.made_from,
        wheel=build.wheel,
        files=build.files,
        torch=build.torch,
        models={
            model.name: _model(model, launches.get(model.uid or ""))
            for model in current.running
            if not model.is_foreign
        },
    )


def _model(model: RunningModel, launch: Launch | None) -> ModelFacts:
    gpus = len(model.entry.gpus)
    if launch is None:
        return ModelFacts(model.model, gpus, private=model.is_private)
    return ModelFacts(
        model.model,
        gpus,
        arguments=tuple(UPLOADS.sub(f"{ON_POD}/", argument) for argument in without_secrets(launch.arguments)),
        origins=launch.origins,
        variables=launch.variables,
        given=launch.given,
        commit=launch.commit,
        vllm=launch.vllm,
        private=model.is_private,
    )


def without_secrets(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return as many arguments, with secrets hidden.

    >>> without_secrets(["--hf-token", "hf_x", "--max-model-len=1", "--hf-token=hf_x"])
    ('--hf-token', '***', '--max-model-len=1', '--hf-token=***')
    """
    hidden: list[str] = []
    for group in vllm_arguments.groups(arguments):
        is_named = vllm_arguments.name_of(group[0]) in values.SECRET_OPTIONS
        for index, word in enumerate(group):
            name, equals, _ = word.partition("=")
            if not (is_named or values.is_token(word)) or (is_named and index == 0 and not equals):
                hidden.append(word)
            else:
                hidden.append(f"{name}={HIDDEN}" if equals and index == 0 else HIDDEN)
    return tuple(hidden)


def options(arguments: Sequence[str]) -> dict[str, str]:
    """Return the options among arguments with their values, for comparisons by name.

    >>> options(["--max_model_len=1", "-q", "a", "b", "--enforce-eager", "-q", "c"])
    {'--max-model-len': '1', '-q': 'a b, c', '--enforce-eager': 'on'}
    """
    found: dict[str, str] = {}
    for group in vllm_arguments.groups(arguments):
        name, (_, equals, value) = vllm_arguments.name_of(group[0]), group[0].partition("=")
        text = " ".join([*([value] if equals else []), *group[1:]]) or ("" if equals else "on")
        found[name] = f"{found[name]}, {text}" if name in found else text
    return found

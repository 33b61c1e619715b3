"""Options that several commands share, and settings from the environment."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from pi_cli.commands.names import complete_pod
from pi_cli.errors import BadUsage
from pi_cli.hints import fill

if TYPE_CHECKING:
    from pi_cli.store.records import Model, Pod
    from pi_cli.store.state import State

PodName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the pod.", autocompletion=complete_pod)]
OnPods = Annotated[
    list[str] | None,
    typer.Option(
        "--pod",
        "-p",
        metavar="POD",
        help="Pod to use instead of the active one; repeatable.",
        autocompletion=complete_pod,
    ),
]
OnPod = Annotated[
    str | None,
    typer.Option(
        "--pod", "-p", metavar="POD", help="Pod to use instead of the active one.", autocompletion=complete_pod
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]

SHORTEST_KEY = 8  # characters
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ModelOnPod(NamedTuple):
    """A model in `pods.json`, and the pod it is on."""

    pod_name: str
    pod: "Pod"
    name: str
    model: "Model"


def as_json(pod: str, name: str, model: "Model") -> dict[str, object]:
    """Return the fields of a model that every `--json` shows."""
    fields = {"model": model.model, "port": model.port, "gpu": model.gpu, "pid": model.pid}
    return {"pod": pod, "name": name} | fields


def api_key(model: "Model | None" = None) -> str:
    """Return the API key of a model from the variable recorded at its start, by default PI_API_KEY.

    Raises `BadUsage` if the variable is not set or does not hold a valid key.
    """
    return _key_in(model.key_variable if model else "PI_API_KEY")


def api_keys(variables: Sequence[str]) -> tuple[str, ...]:
    """Return the API keys in environment variables; the first is the one that pi itself uses."""
    return tuple(_key_in(name) for name in variables or ["PI_API_KEY"])


def _key_in(name: str) -> str:
    if not VARIABLE_NAME.fullmatch(name):
        raise BadUsage(
            "`--api-key-env` takes the name of a variable, in letters, digits and `_`",
            hint="for example: `export TEAM_KEY=…` and `pi start … --api-key-env TEAM_KEY`",
        )
    return _secret(name, hint=fill("set one, for example: `export {name}=$(openssl rand -hex 32)`", name=name))


def hf_token() -> str:
    """Return HF_TOKEN, the token for the Hugging Face Hub."""
    return _secret("HF_TOKEN", hint="create one at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`")


def hub_settings() -> tuple[str | None, str | None]:
    """Return HF_TOKEN and HF_ENDPOINT, each None if it is not set."""
    return os.environ.get("HF_TOKEN") or None, os.environ.get("HF_ENDPOINT") or None


def _secret(name: str, *, hint: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise BadUsage(f"{name} is not set", hint=hint)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadUsage(f"{name} contains characters that an HTTP header cannot carry", hint=hint)
    if len(value) < SHORTEST_KEY:
        raise BadUsage(f"{name} has fewer than {SHORTEST_KEY} characters", hint=hint)
    return value


def find_model(current: "State", name: str, pod: str | None) -> ModelOnPod:
    """Find a model by NAME or POD/NAME: on the given pod, the active pod, or the only pod that has it."""
    if "/" in name:
        prefix, _, name = name.partition("/")
        if pod not in (None, prefix):
            raise BadUsage(f"`{prefix}/{name}` is not on `{pod}`", hint="name the pod only once")
        pod = prefix
    if pod:
        current.pod(pod)
    matches = [
        ModelOnPod(pod_name, current.pod(pod_name), name, model)
        for pod_name, model_name, model in current.models()
        if model_name == name and pod in (None, pod_name)
    ]
    matches = [match for match in matches if match.pod_name == current.active] or matches
    if not matches:
        raise BadUsage(
            f"there is no model `{name}`{f' on `{pod}`' if pod else ''}", hint="see the models with `pi list --all`"
        )
    if len(matches) > 1:
        choices = ", ".join(f"`{match.pod_name}/{name}`" for match in matches)
        raise BadUsage(f"`{name}` runs on several pods", hint=f"choose one of {choices}")
    return matches[0]


def point_to_other_pod(current: "State", pods: Mapping[str, object], name: str) -> None:
    """Raise `BadUsage` that names the pod of a model if none of `pods` has it and another pod does."""
    having = [pod for pod, model_name, _ in current.models() if model_name == name]
    if having and not set(having) & set(pods):
        hint = fill("it is on `{pod}`: add `--pod {pod}`", pod=having[0])
        raise BadUsage(f"`{name}` is not on the active pod", hint=hint)

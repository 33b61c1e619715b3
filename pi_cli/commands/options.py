"""Options that several commands share, and the settings that come from the environment."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from pi_cli.commands.names import complete_pod
from pi_cli.errors import BadUsage, PiError
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
        help="Pod to act on instead of the active one; repeatable.",
        autocompletion=complete_pod,
    ),
]
OnPod = Annotated[
    str | None,
    typer.Option(
        "--pod", "-p", metavar="POD", help="Pod to act on instead of the active one.", autocompletion=complete_pod
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

SHORTEST_KEY = 8
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def as_json(pod: str, name: str, model: "Model") -> dict[str, object]:
    """Return a model as `--json` shows it everywhere."""
    about = {"model": model.model, "port": model.port, "gpu": model.gpu, "pid": model.pid}
    return {"pod": pod, "name": name} | about


def api_key(model: "Model | None" = None) -> str:
    """Return the key of a model, from the variable it was started with; that is PI_API_KEY if nothing else was said.

    Raises `BadUsage` if it is missing or no key at all.
    """
    return _key_in(model.key_variable if model else "PI_API_KEY")


def api_keys(variables: Sequence[str]) -> tuple[str, ...]:
    """Return the keys in variables of the environment, the one that pi itself uses first."""
    return tuple(_key_in(name) for name in variables or ["PI_API_KEY"])


def wrong_key(name: str, model: "Model") -> PiError:
    variable = model.key_variable
    return PiError(
        f"`{name}` refuses the key in {variable}", hint=f"set {variable} to the key that the model was started with"
    )


def _key_in(name: str) -> str:
    if not VARIABLE.fullmatch(name):
        raise BadUsage(
            "a key is given by the name of its variable, in letters, digits and `_`",
            hint="such as `export TEAM_KEY=…` and `pi start … --api-key-env TEAM_KEY`",
        )
    return _secret(name, hint=fill("set one, for example: `export {name}=$(openssl rand -hex 32)`", name=name))


def hf_token() -> str:
    """Return HF_TOKEN, which reads models from the Hugging Face Hub."""
    return _secret("HF_TOKEN", hint="create one at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`")


def hub_settings() -> tuple[str | None, str | None]:
    """Return HF_TOKEN and HF_ENDPOINT, each None if it is not set."""
    return os.environ.get("HF_TOKEN") or None, os.environ.get("HF_ENDPOINT") or None


def _secret(name: str, *, hint: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise BadUsage(f"{name} is not set", hint=hint)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadUsage(f"{name} holds characters that no HTTP header can carry", hint=hint)
    if len(value) < SHORTEST_KEY:
        raise BadUsage(f"{name} has fewer than {SHORTEST_KEY} characters", hint=hint)
    return value


def find_model(current: "State", name: str, pod: str | None) -> "tuple[str, Pod, str, Model]":
    """Find a model by NAME or POD/NAME: on the pod given, the active one, or the only one that has it."""
    if "/" in name:
        prefix, _, name = name.partition("/")
        if pod not in (None, prefix):
            raise BadUsage(f"`{prefix}/{name}` is not on `{pod}`", hint="give the pod once")
        pod = prefix
    if pod:
        current.pod(pod)
    found = [(on, model) for on, each, model in current.models() if each == name and pod in (None, on)]
    best = [(on, model) for on, model in found if on == current.active] or found
    if not best:
        raise BadUsage(
            f"there is no model `{name}`{f' on `{pod}`' if pod else ''}", hint="see them with `pi list --all`"
        )
    if len(best) > 1:
        places = ", ".join(f"`{on}/{name}`" for on, _ in best)
        raise BadUsage(f"`{name}` runs on several pods", hint=f"say which: {places}")
    [(on, model)] = best
    return on, current.pod(on), name, model


def point_to_other_pod(current: "State", where: Mapping[str, object], name: str) -> None:
    """Say where a model is when the active pod has none of that name and another one has."""
    elsewhere = [pod for pod, each, _ in current.models() if each == name]
    if elsewhere and not set(elsewhere) & set(where):
        hint = fill("it is on `{pod}`: add `--pod {pod}`", pod=elsewhere[0])
        raise BadUsage(f"`{name}` is not on the active pod", hint=hint)

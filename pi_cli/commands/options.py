"""Options that several commands share, and the settings that come from the environment."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

import typer

from pi_cli.errors import BadUsage, PiError
from pi_cli.store import state
from pi_cli.store.records import Model


def complete_pod(incomplete: str) -> list[str]:
    """Return the pods a shell may complete to, from local state."""
    return [name for name in _remembered().pods if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Return the models a shell may complete to, from local state."""
    names = dict.fromkeys(name for _, name, _ in _remembered().models())
    return [name for name in names if name.startswith(incomplete)]


def _remembered() -> state.State:
    """Return the local state; a shell that completes has no use for errors."""
    with suppress(PiError):
        return state.load()
    return state.State()


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


def as_json(pod: str, name: str, model: Model) -> dict[str, object]:
    """Return a model as `--json` shows it everywhere."""
    about = {"model": model.model, "port": model.port, "gpu": model.gpu, "pid": model.pid}
    return {"pod": pod, "name": name} | about


def api_key() -> str:
    """Return PI_API_KEY, which guards every endpoint. Raises `BadUsage` if it is missing or no key at all."""
    return _secret("PI_API_KEY", hint="choose one, such as `export PI_API_KEY=$(openssl rand -hex 32)`")


def hf_token() -> str:
    """Return HF_TOKEN, which reads models from the Hugging Face Hub."""
    return _secret("HF_TOKEN", hint="create one at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`")


def _secret(name: str, *, hint: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise BadUsage(f"{name} is not set", hint=hint)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadUsage(f"{name} holds characters that no HTTP header can carry", hint=hint)
    if len(value) < SHORTEST_KEY:
        raise BadUsage(f"{name} has fewer than {SHORTEST_KEY} characters", hint=hint)
    return value


def point_to_other_pod(current: state.State, where: Mapping[str, object], name: str) -> None:
    """Say where a model is when the active pod has none of that name and another one has."""
    elsewhere = [pod for pod, each, _ in current.models() if each == name]
    if elsewhere and not set(elsewhere) & set(where):
        raise BadUsage(
            f"`{name}` is not on the active pod", hint=f"it is on `{elsewhere[0]}`: add `--pod {elsewhere[0]}`"
        )

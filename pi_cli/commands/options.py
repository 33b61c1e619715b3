"""Options that several commands share, and settings from the environment."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pi_cli.commands import rows
from pi_cli.commands.names import complete_model, complete_pod
from pi_cli.errors import BadUsage, NotSet, PiError
from pi_cli.hints import fill
from pi_cli.store import debug, keys
from pi_cli.store.keys import ApiKey

if TYPE_CHECKING:
    from pi_cli.store.records import Model

PodName = Annotated[str, typer.Argument(metavar="NAME", help="Name of the pod.", autocompletion=complete_pod)]
PodNames = Annotated[list[str], typer.Argument(metavar="NAME…", help="Names of pods.", autocompletion=complete_pod)]
OnPods = Annotated[
    list[str] | None,
    typer.Option(
        "--pod",
        "-p",
        metavar="POD",
        help="Pod to use instead of the active one or that in PI_POD; repeatable.",
        autocompletion=complete_pod,
    ),
]
OnPod = Annotated[
    str | None,
    typer.Option(
        "--pod",
        "-p",
        metavar="POD",
        help="Pod to use instead of the active one or that in PI_POD.",
        autocompletion=complete_pod,
    ),
]
NameOfModel = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="Name of the model, or POD/NAME; may be left out if there is only one.",
        autocompletion=complete_model,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
NamesOnly = Annotated[bool, typer.Option("--quiet", "-q", help="Print names alone, one per line.")]
Wide = Annotated[bool, typer.Option("--wide", help="Show all columns, whole, also where the terminal is narrower.")]

T = TypeVar("T")
as_json, show_names = rows.as_json, rows.show_names
HOW_TO_LOG_IN = (
    "create a token at https://huggingface.co/settings/tokens and `export HF_TOKEN=…`, or log in with `hf auth login`"
)
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def api_key() -> ApiKey:
    """Return the API key for new models: of PI_API_KEY, or else of the file that `pi key` keeps."""
    [key] = api_keys([])
    return key


def api_keys(variables: Sequence[str]) -> tuple[ApiKey, ...]:
    """Return the API keys in environment variables; the first is the one that pi itself uses.

    Raises `BadUsage` that names every variable that is not set.
    """
    return tuple(_all(*(partial(_new_key, name) for name in variables or [keys.VARIABLE])))


def api_key_of(name: str, model: "Model | None") -> ApiKey:
    """Return the API key of a running model, from the variable recorded at its start or else as for new models."""
    variable = model.key_variable if model else keys.VARIABLE
    file = model.key_file if model else None
    if key := keys.find(_variable_name(variable)):
        return replace(key, started_in=file)
    if file:
        hint = "`{name}` was started with the key in `{file}`: keep that key again with `pi key set`"
    elif variable == keys.VARIABLE:
        hint = "`export {variable}=…` with the key that `{name}` was started with, or keep that key with `pi key set`"
    else:
        hint = "`export {variable}=…` with the key that `{name}` was started with"
    raise NotSet([variable], hint=fill(hint, name=name, file=file or "", variable=variable))


def require_secrets() -> None:
    """Check that there is a token for the Hugging Face Hub and an API key; one error names all that is missing."""
    _all(hf_token, api_key)


def hf_token() -> str:
    """Return the token for the Hugging Face Hub: HF_TOKEN, or what `hf auth login` has stored."""
    if token := os.environ.get("HF_TOKEN"):
        return keys.checked(token, "HF_TOKEN", hint=HOW_TO_LOG_IN)
    if token := stored_hub_token():
        return token
    raise NotSet(["HF_TOKEN"], hint=HOW_TO_LOG_IN)


def hub_settings() -> tuple[str | None, str | None]:
    """Return the token for the Hub, as `hf_token` finds it, and HF_ENDPOINT; each None if there is none."""
    token = os.environ.get("HF_TOKEN")
    if not token:
        with suppress(PiError):  # most models need no token; setup says what is wrong with a stored one
            token = stored_hub_token()
    return token or None, hub_endpoint()


def hub_endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


@cache
def stored_hub_token() -> str | None:
    """Return the token that the Hub's own client has stored; None if there is none."""
    from pi_cli.hub import hub_token

    token = hub_token.stored()
    if token is None:
        return None
    debug.hide("Hub token", token)
    return keys.checked(token, "the token of `hf auth login`", hint=HOW_TO_LOG_IN)


def _new_key(name: str) -> ApiKey:
    if key := keys.find(_variable_name(name)):
        return key
    if name == keys.VARIABLE:
        raise NotSet([name], hint="make a key with `pi key new`")
    raise NotSet([name], hint=fill("set one, for example: `export {name}=$(openssl rand -hex 32)`", name=name))


def _variable_name(name: str) -> str:
    if not VARIABLE_NAME.fullmatch(name):
        raise BadUsage(
            "`--api-key-env` takes the name of a variable, in letters, digits and `_`",
            hint="for example: `export TEAM_KEY=…` and `pi start … --api-key-env TEAM_KEY`",
        )
    return name


def _all(*needs: Callable[[], T]) -> list[T]:
    """Return what is needed; if something is missing, raise one error about all of it."""
    found: list[T] = []
    problems: list[PiError] = []
    for need in needs:
        try:
            found.append(need())
        except PiError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        hint = "; ".join(dict.fromkeys(problem.hint for problem in problems if problem.hint))
        missing = [name for problem in problems if isinstance(problem, NotSet) for name in problem.names]
        if len(missing) == len(problems):
            raise NotSet(list(dict.fromkeys(missing)), hint=hint)
        raise BadUsage("; ".join(problem.message for problem in problems), hint=hint)
    return found

"""The `pi start` that a model was really started with, in its entry of `pods.json`: for hints, any time later."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pi_cli.diagnosis.start_command import StartCommand
from pi_cli.store.records import Model, Pod

KEY = "command"
SECRET = re.compile(r"(?:TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|_KEY|APIKEY)$")  # names of options and variables
OWN, TEXTS = "own_arguments", ("pod", "memory", "context")
LISTS = ("other_options", "variables", "planned_arguments")


def record(command: StartCommand) -> dict[str, Any]:
    """Return what is recorded of a command; model and name are in the entry already.

    A command with a secret in it is not recorded: what is recorded is shown.
    """
    words = (*(command.own_arguments or ()), *command.variables)
    if any(SECRET.search(word.partition("=")[0].upper().replace("-", "_")) for word in words):
        return {}
    given: dict[str, Any] = {
        **{name: getattr(command, name) for name in (*TEXTS, "gpus")},
        **{name: list(getattr(command, name)) for name in LISTS},
        OWN: None if command.own_arguments is None else list(command.own_arguments),
    }
    return {KEY: {name: value for name, value in given.items() if value or (name == OWN and value is not None)}}


def read(name: str, model: Model | None, pod: Pod) -> StartCommand | None:
    """Return the command that started a model, with what remedies depend on; None as in `typed`."""
    if (command := typed(name, model)) is None:
        return None
    from pi_cli.models import start_errors  # not at the top: only hints need what it imports

    return start_errors.on_pod(command, pod)


def typed(name: str, model: Model | None) -> StartCommand | None:
    """Return the command that started a model; None if it is not recorded, or the user has broken it."""
    given = model.extra.get(KEY) if model else None
    if model is None or not isinstance(given, Mapping):
        return None
    try:
        on, memory, context = (_text(given.get(key)) for key in TEXTS)
        options, variables, planned = (_texts(given.get(key, ())) for key in LISTS)
        own = _texts(given[OWN]) if OWN in given else None
    except TypeError:
        return None
    gpus = given.get("gpus") if isinstance(given.get("gpus"), int) else None
    return StartCommand(model.model, name, on, gpus, memory, context, own, options, variables, planned)


def _text(value: object) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise TypeError
    return tuple(value)

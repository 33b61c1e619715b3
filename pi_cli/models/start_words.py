"""The words with which a model was started, in its entry in `pods.json`: what a later start has to be given again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from pi_cli.safe import safe_line

if TYPE_CHECKING:
    from pi_cli.models.start_options import StartOptions

KEY = "started_with"  # of the entry
KEY_OPTION = "--api-key-env="


@dataclass(frozen=True, slots=True)
class StartWords:
    """The options of a `pi start` as they were given; without values that came from the environment.

    `vllm` has what was after `--vllm`, None if pi chose the arguments. `env` are words of `--env`, `api_key_env` names
    of variables, `across` the pods of one model over several.
    """

    model: str
    gpus: int | None = None
    context: str | None = None
    memory: str | None = None
    vllm: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    private: bool = False
    api_key_env: tuple[str, ...] = ()
    across: tuple[str, ...] = ()


def of(options: "StartOptions") -> StartWords:
    """Return the words of a start."""
    command = options.command
    variables = [word.removeprefix(KEY_OPTION) for word in command.other_options if word.startswith(KEY_OPTION)]
    return StartWords(
        command.model,
        command.gpus,
        command.context,
        command.memory,
        command.own_arguments,
        command.variables,
        options.private,
        tuple(variables),
        options.across.pods if options.across else (),
    )


def record(words: StartWords) -> dict[str, Any]:
    """Return what `pods.json` keeps: the words that were given.

    >>> record(StartWords("Qwen/Qwen3-8B", context="32k"))
    {'started_with': {'model': 'Qwen/Qwen3-8B', 'context': '32k'}}
    """
    given = {name: value for name, value in asdict(words).items() if value or (name == "vllm" and value is not None)}
    return {KEY: {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}}


def read(extra: Mapping[str, Any]) -> StartWords | None:
    """Return the words in the extra keys of an entry; None if it has none, or if they were changed by hand.

    >>> read({"started_with": {"model": "Qwen/Qwen3-8B", "vllm": []}}).vllm
    ()
    >>> read({}), read({"started_with": {"model": "q", "gpus": "2"}})
    (None, None)
    """
    kept = extra.get(KEY)
    if not isinstance(kept, Mapping):
        return None
    found: dict[str, Any] = {}
    for field in fields(StartWords):
        value = kept.get(field.name)
        if value is None:
            continue
        if field.name in ("vllm", "env", "api_key_env", "across"):
            if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
                return None
            value = tuple(value)
        elif type(value) is not {"gpus": int, "private": bool}.get(field.name, str):
            return None
        found[field.name] = safe_line(value) if isinstance(value, str) else value
    return StartWords(**found) if "model" in found else None

"""The text of a lock: TOML in a fixed order, and its checks. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pi_cli.errors import BadUsage
from pi_cli.fleet.reality import ModelFacts, PodFacts
from pi_cli.pods import checks, replies
from pi_cli.vllm import own_variables, vllm_arguments

VERSION = 1
HEAD = """\
# What ran when `pi up --lock` wrote this file: keep it beside pi.toml. `pi up --locked` starts the same again, and
# `pi diff` compares. Do not edit it.
"""
# The keys of a pod, and the fields of its facts. `install` is what setup is told, so that the lock repeats it.
OF_POD = {key: key for key in ("driver", "cuda", "vllm", "wheel", "files", "torch")} | {"install": "made_from"}

Asked = Mapping[tuple[str, str], Mapping[str, Any]]


def render(pods: Mapping[str, PodFacts], asked: Asked) -> str:
    """Return the text; names are sorted, so that the same facts make the same text."""
    lines = [HEAD, f"version = {VERSION}"]
    for name, facts in sorted(pods.items()):
        lines += ["", f"[pods.{_key(name)}]", f"gpus = {_array(facts.gpus)}"]
        lines += [f"{key} = {_value(value)}" for key, field in OF_POD.items() if (value := getattr(facts, field))]
        for model_name, model in sorted(facts.models.items()):
            lines += ["", f"[pods.{_key(name)}.models.{_key(model_name)}]", *_of_model(model)]
    for (kind, name), keys in sorted(asked.items()):
        lines += ["", f"[asked.{kind}.{_key(name)}]"]
        lines += [f"{_key(key)} = {_value(value)}" for key, value in sorted(keys.items())]
    return "\n".join(lines) + "\n"


def parse(data: dict[str, Any]) -> tuple[dict[str, PodFacts], Asked]:
    """Check the data of a lock. Raises `ValueError`, `KeyError` or `TypeError`."""
    if data["version"] != VERSION:
        raise ValueError("a newer version of pi wrote it")
    pods = {name: _pod(table) for name, table in _table(data.get("pods", {})).items()}
    asked = _table(data.get("asked", {}))
    keys = {(kind, name): _table(keys) for kind, names in asked.items() for name, keys in _table(names).items()}
    return pods, keys


def _of_model(facts: ModelFacts) -> Iterator[str]:
    yield f"model = {_value(facts.model)}"
    for key, value in (("commit", facts.commit), ("vllm", facts.vllm)):
        if value is not None:
            yield f"{key} = {_value(value)}"
    yield f"gpus = {facts.gpus}"
    if facts.private:
        yield "private = true"
    if facts.given:
        yield f"given = {_array(facts.given)}"
    if facts.variables:
        pairs = ", ".join(f"{_key(name)} = {_value(value)}" for name, value in sorted(facts.variables.items()))
        yield f"variables = {{ {pairs} }}"
    if facts.arguments is not None:
        yield from ("arguments = [", *_groups(facts), "]")


def _groups(facts: ModelFacts) -> Iterator[str]:
    """Yield a line for each option with its values and its origin."""
    words: list[str] = []
    origins = facts.origins or (None,) * len(facts.arguments or ())
    before = None
    for word, origin in zip(facts.arguments or (), origins, strict=True):
        if words and (vllm_arguments.is_option(word) or origin != before):
            yield _group(words, before)
            words = []
        words.append(word)
        before = origin
    if words:
        yield _group(words, before)


def _group(words: Sequence[str], origin: str | None) -> str:
    described = "" if origin is None else f", origin = {_value(origin)}"
    return f"    {{ words = {_array(words)}{described} }},"


def _pod(table: object) -> PodFacts:
    keys = _table(table)
    return PodFacts(
        gpus=tuple(checks.each(checks.line, keys["gpus"])),
        **{field: checks.optional(checks.line, keys.get(key)) for key, field in OF_POD.items()},
        models={name: _model(model) for name, model in _table(keys.get("models", {})).items()},
    )


def _model(table: object) -> ModelFacts:
    keys = _table(table)
    groups = checks.optional(lambda value: checks.each(_table, value), keys.get("arguments"))
    words = [
        (word, group.get("origin")) for group in groups or () for word in checks.each(checks.string, group["words"])
    ]
    origins = tuple(checks.one_of(origin, replies.ORIGINS) for _, origin in words if origin is not None)
    if origins and len(origins) != len(words):
        raise ValueError("some of its arguments have no origin")
    return ModelFacts(
        model=checks.string(keys["model"]),
        gpus=checks.whole(keys["gpus"]),
        arguments=None if groups is None else tuple(word for word, _ in words),
        origins=origins,
        variables=_variables(_table(keys.get("variables", {}))),
        given=tuple(checks.each(checks.string, keys.get("given", []))),
        commit=checks.optional(checks.commit, keys.get("commit")),
        vllm=checks.optional(checks.line, keys.get("vllm")),
        private=checks.flag(keys.get("private", False)),
    )


def _variables(table: dict[str, Any]) -> dict[str, str]:
    variables = {name: checks.string(value) for name, value in table.items()}
    if reason := refusal(variables):
        raise ValueError(reason)
    return variables


def refusal(variables: Mapping[str, str]) -> str:
    """Return why a lock must not have these variables; no text if it may. It may have what `--env` may have.

    A pod that lies about what it runs must not get a key, or vLLM's guard out of the way, on another pod.
    """
    try:
        own_variables.read([f"{name}={value}" for name, value in variables.items()], {})
    except BadUsage as error:
        return error.message
    return ""


def _table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table is missing")
    return value


def _key(name: str) -> str:
    import tomlkit

    return tomlkit.key(name).as_string()


def _value(value: Any) -> str:
    import tomlkit

    return _array(value) if isinstance(value, list | tuple) else tomlkit.item(value).as_string()


def _array(values: Sequence[Any]) -> str:
    return f"[{', '.join(map(_value, values))}]"

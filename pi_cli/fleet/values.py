"""The kinds of values in `pi.toml`: how each is read, and its JSON schema. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pi_cli.errors import BadUsage
from pi_cli.ssh import passwords, ssh_command
from pi_cli.store import mounts, quantities
from pi_cli.store.records import NAME, NAME_RULE, is_name
from pi_cli.vllm import own_variables

MAX_GPUS = 1024  # of a pod
MAX_PORT = 65535
OFF = "off"
IN_ENVIRONMENT = "no secret belongs into this file: set it in your environment, and give its name"
SECRET_OPTIONS = ("--api-key", "--hf-token")


class Refused(ValueError):
    """A value is not of its kind. `path` leads to the part at fault, `advice` says what to do."""

    def __init__(self, reason: str, *, advice: str = "", path: Sequence[str | int] = ()) -> None:
        super().__init__(reason)
        self.reason, self.advice, self.path = reason, advice, tuple(path)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: `read` checks one and returns what pi uses, or raises `Refused`."""

    read: Callable[[object], object]
    schema: Mapping[str, object] = field(default_factory=dict)


def called(value: object) -> str:
    """Return what a value of TOML is, without the value: it may be a secret.

    >>> called(True), called([1]), called({})
    ('a boolean', 'a list', 'a table')
    """
    kinds = {
        bool: "a boolean",
        int: "a whole number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(type(value), "a date or a time")


def _should_be(what: str, value: object) -> Refused:
    return Refused(f"should be {what}, not {called(value)}")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _should_be("a text", value)
    if not value.strip():
        raise Refused("should not be empty")
    if not value.isprintable():
        raise Refused("has control characters")
    return value


def _without_secret(value: object) -> str:
    text = _text(value)
    if passwords.hide(text) != text:
        raise Refused("seems to contain a password, a key or a token", advice=IN_ENVIRONMENT)
    return text


def _ssh(value: object) -> str:
    text = _without_secret(value)
    try:
        ssh_command.parse(text)
    except BadUsage as error:
        raise Refused(f"is not an ssh command for pi: {error.message}", advice=error.hint or "") from None
    return text


def _mount(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _should_be("a text", value) if not isinstance(value, str) else Refused("should not be empty")
    if mounts.has_secret(value):
        raise Refused(
            "seems to contain a secret",
            advice="use `-o credentials=FILE` with a file on the pod, or mount it with `pi pods setup NAME --mount -`",
        )
    return value


def _folder(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise Refused("should be an absolute path", advice="start it with `/`")
    return text


def _home(value: object) -> str:
    text = _text(value)
    if not (text.startswith(("/", "~/", "$HOME/")) or text in ("~", "$HOME")):
        raise Refused("should be an absolute path", advice="start it with `/`, or use `~`")
    return text


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _should_be("true or false", value)
    return value


def _whole_number(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _should_be("a whole number", value)
        if not low <= value <= high:
            raise Refused(f"should be from {low} to {high}")
        return value

    return read


def _quantity(parse: Callable[[str], object], example: str) -> Callable[[object], str]:
    """Return a reader of a number, or of a text with a unit, that `pi start` and `pi pods setup` read too."""

    def read(value: object) -> str:
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise _should_be(f"for example {example}", value)
        try:
            parse(str(value))
        except (BadUsage, OverflowError):
            raise Refused(f"should be for example {example}") from None
        return str(value)

    return read


def _lease(value: object) -> str:
    text = _text(value)
    if text == OFF:
        return text
    try:
        if quantities.duration(text) is not None and quantities.lease(text, None):
            return text
    except BadUsage:
        pass
    raise Refused('should be a duration up to 30 days, for example "45m" or "2h", or "off"')


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _should_be("a number of seconds", value)
    if not 1 <= value <= 86400:
        raise Refused("should be from 1 to 86400 seconds")
    return float(value)


def _choice(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Refused("should be " + " or ".join(f'"{choice}"' for choice in choices))
        return value

    return read


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise _should_be("a list", value)
    return value


def _each(values: Sequence[object], read: Callable[[object], str]) -> tuple[str, ...]:
    found = []
    for index, value in enumerate(values):
        try:
            found.append(read(value))
        except Refused as refused:
            raise Refused(refused.reason, advice=refused.advice, path=(index, *refused.path)) from None
    return tuple(found)


def _name(value: object) -> str:
    text = _text(value)
    if not is_name(text):
        raise Refused("cannot be the name of a pod", advice=f"use {NAME_RULE}")
    return text


def _names(least: int) -> Callable[[object], tuple[str, ...]]:
    def read(value: object) -> tuple[str, ...]:
        names = _each(_list(value), _name)
        for index, name in enumerate(names):
            if name in names[:index]:
                raise Refused(f"`{name}` is in the list twice", path=(index,))
        if len(names) < least:
            raise Refused("should name a pod" if least == 1 else f"should name at least {least} pods")
        return names

    return read


def _argument(value: object) -> str:
    if not isinstance(value, str):
        raise _should_be("a text", value)
    if value.partition("=")[0] in SECRET_OPTIONS or is_token(value):
        raise Refused("is a secret", advice="the key comes from PI_API_KEY, `pi key`, or `api-key-env`")
    if "\0" in value:
        raise Refused("has control characters")
    return value


def is_token(text: str) -> bool:
    """Return whether a text has a token of the Hub, of OpenAI or of GitHub in it."""
    return re.search(r"\b(?:hf_[A-Za-z0-9]{20}|sk-[A-Za-z0-9_-]{20}|gh[pousr]_\w{20})", text) is not None


def _arguments(value: object) -> tuple[str, ...]:
    return _each(_list(value), _argument)


def _environment(value: object) -> tuple[str, ...]:
    """Read variables as `--env` takes them: a table of values, or a list of `NAME` and `NAME=VALUE`."""
    if isinstance(value, list):
        return _each(value, _variable)
    if not isinstance(value, dict):
        raise _should_be("a table of variables, or a list of their names", value)
    found = []
    for name, given in value.items():
        if not isinstance(given, str | int) or isinstance(given, bool):
            raise Refused(f"should be a text, not {called(given)}", path=(name,))
        try:
            found.append(_variable(f"{name}={given}"))
        except Refused as refused:
            raise Refused(refused.reason, advice=refused.advice, path=(name,)) from None
    return tuple(found)


def _variable(value: object) -> str:
    if not isinstance(value, str):
        raise _should_be("a text", value)
    name, equals, given = value.partition("=")
    if not own_variables.NAME.fullmatch(name):
        raise Refused("is not the name of a variable", advice="use letters, digits and `_`")
    if not given.isprintable():
        raise Refused("has control characters")
    if equals and (own_variables.SECRET.search(name.upper()) or passwords.hide(given) != given):
        raise Refused(f"the value of `{name}` looks like a secret", advice=IN_ENVIRONMENT)
    return value


def _key_variables(value: object) -> tuple[str, ...]:
    names = _each(value if isinstance(value, list) else [value], _key_variable)
    if not names:
        raise Refused("should name a variable")
    return names


def _key_variable(value: object) -> str:
    if not isinstance(value, str) or not own_variables.NAME.fullmatch(value):
        raise Refused("should be the name of a variable, which has the key", advice='for example "TEAM_KEY"')
    return value


TEXT_SCHEMA = {"type": "string", "minLength": 1}
NAME_SCHEMA = {"type": "string", "pattern": f"^{NAME.pattern}$"}
VARIABLE_SCHEMA = {"type": "string", "pattern": f"^{own_variables.NAME.pattern}$"}

TEXT = Kind(_text, TEXT_SCHEMA)
SSH = Kind(_ssh, TEXT_SCHEMA)
MOUNT = Kind(_mount, TEXT_SCHEMA)
FOLDER = Kind(_folder, {"type": "string", "pattern": "^/"})
HOME = Kind(_home, {"type": "string", "pattern": r"^(/|~|\$HOME)"})
BOOLEAN = Kind(_boolean, {"type": "boolean"})
COUNT = Kind(_whole_number(1, MAX_GPUS), {"type": "integer", "minimum": 1, "maximum": MAX_GPUS})
PORT = Kind(_whole_number(1, MAX_PORT), {"type": "integer", "minimum": 1, "maximum": MAX_PORT})
SECONDS = Kind(_seconds, {"type": "number", "minimum": 1, "maximum": 86400})
PRICE = Kind(_quantity(quantities.price, '2.49 or "2.49 EUR"'), {"type": ["string", "number"]})
CONTEXT = Kind(_quantity(quantities.tokens, '"64k" or 40000'), {"type": ["string", "integer"]})
MEMORY = Kind(_quantity(quantities.share, '"50%" or 0.5'), {"type": ["string", "number"]})
LEASE = Kind(_lease, {"type": "string", "pattern": r"^(off|\s*(\d+(\.\d+)?\s*[smhdSMHD]\s*)+)$"})
PODS = Kind(_names(1), {"type": "array", "items": NAME_SCHEMA, "minItems": 1, "uniqueItems": True})
SEVERAL_PODS = Kind(_names(2), {"type": "array", "items": NAME_SCHEMA, "minItems": 2, "uniqueItems": True})
ARGUMENTS = Kind(_arguments, {"type": "array", "items": {"type": "string"}})
ENVIRONMENT = Kind(
    _environment,
    {
        "anyOf": [
            {
                "type": "object",
                "propertyNames": VARIABLE_SCHEMA,
                "additionalProperties": {"type": ["string", "integer"]},
            },
            {"type": "array", "items": {"type": "string", "pattern": f"^{own_variables.NAME.pattern}(=.*)?$"}},
        ]
    },
)
KEY_VARIABLES = Kind(
    _key_variables, {"anyOf": [VARIABLE_SCHEMA, {"type": "array", "items": VARIABLE_SCHEMA, "minItems": 1}]}
)


def choice(*choices: str) -> Kind:
    """Return the kind of a text that is one of these."""
    return Kind(_choice(*choices), {"enum": list(choices)})

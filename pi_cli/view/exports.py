"""Variables as lines for a shell, each value quoted as that shell wants it."""

import shlex
from collections.abc import Iterator, Mapping

PREFIXES = {"bash": "export {}=", "fish": "set -gx {} ", "powershell": "$env:{} = "}
REFERENCES = {"bash": '"${}"', "fish": '"${}"', "powershell": "$env:{}"}
WAYS_TO_RUN = {"bash": 'eval "$({})"', "fish": "{} | source", "powershell": "{} | Out-String | Invoke-Expression"}
POWERSHELL_QUOTES = str.maketrans({quote: quote * 2 for quote in "'\u2018\u2019\u201a\u201b"})  # all end a text there


def lines(settings: Mapping[str, str | None], shell: str, *, key_variable: str) -> Iterator[str]:
    """Yield a line for each variable; one without a value is set from `key_variable`.

    >>> list(lines({"A": "it's", "K": None}, "fish", key_variable="PI_API_KEY"))
    ["set -gx A 'it\\\\'s'", 'set -gx K "$PI_API_KEY"']
    """
    for name, value in settings.items():
        text = REFERENCES[shell].format(key_variable) if value is None else quoted(value, shell)
        yield PREFIXES[shell].format(name) + text


def quoted(value: str, shell: str) -> str:
    """Write a value so that a shell takes it as it is.

    >>> [quoted("it's $HOME", shell) for shell in ("bash", "fish", "powershell")]
    ['\\'it\\'"\\'"\\'s $HOME\\'', "'it\\\\'s $HOME'", "'it''s $HOME'"]
    """
    if shell == "bash":
        return shlex.quote(value)
    if shell == "fish":
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + value.translate(POWERSHELL_QUOTES) + "'"


def how_to_run(command: str, shell: str) -> str:
    """Return what a person types to have a shell run the lines that a command prints."""
    return WAYS_TO_RUN[shell].format(command)

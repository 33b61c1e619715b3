"""Variables as lines for a shell, with each value quoted for that shell."""

import shlex
from collections.abc import Iterator, Mapping

PREFIXES = {"bash": "export {}=", "fish": "set -gx {} ", "powershell": "$env:{} = "}
REFERENCES = {"bash": '"${}"', "fish": '"${}"', "powershell": "$env:{}"}
EVAL_COMMANDS = {"bash": 'eval "$({})"', "fish": "{} | source", "powershell": "{} | Out-String | Invoke-Expression"}
POWERSHELL_QUOTES = str.maketrans(
    {quote: quote * 2 for quote in "'\u2018\u2019\u201a\u201b"}
)  # each of them ends a string


def lines(settings: Mapping[str, str | None], shell: str, *, key_variable: str) -> Iterator[str]:
    """Yield one line per variable; a variable without a value is set from `key_variable`.

    >>> list(lines({"A": "it's", "K": None}, "fish", key_variable="PI_API_KEY"))
    ["set -gx A 'it\\\\'s'", 'set -gx K "$PI_API_KEY"']
    """
    for name, value in settings.items():
        text = REFERENCES[shell].format(key_variable) if value is None else quoted(value, shell)
        yield PREFIXES[shell].format(name) + text


def quoted(value: str, shell: str) -> str:
    """Quote a value so that the shell does not change it.

    >>> [quoted("it's $HOME", shell) for shell in ("bash", "fish", "powershell")]
    ['\\'it\\'"\\'"\\'s $HOME\\'', "'it\\\\'s $HOME'", "'it''s $HOME'"]
    """
    if shell == "bash":
        return shlex.quote(value)
    if shell == "fish":
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return "'" + value.translate(POWERSHELL_QUOTES) + "'"


def eval_command(command: str, shell: str) -> str:
    """Return the command line that makes a shell run the lines that `command` prints."""
    return EVAL_COMMANDS[shell].format(command)

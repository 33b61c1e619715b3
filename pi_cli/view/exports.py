"""Variables as lines for a shell, with each value quoted for that shell."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

PREFIXES = {"bash": "export {}=", "fish": "set -gx {} ", "powershell": "$env:{} = "}
REMOVALS = {"bash": "unset {}", "fish": "set -e {}", "powershell": "Remove-Item Env:{}"}
# A function that calls the program of its name with arguments before those that it is given.
FUNCTIONS = {
    "bash": '{name}() {{ command {words} "$@"; }}',
    "fish": "function {name}; command {words} $argv; end",
    "powershell": "function {name} {{ & (Get-Command -CommandType Application {name})[0] {rest} @args }}",
}
REFERENCES = {"bash": '"${}"', "fish": '"${}"', "powershell": "$env:{}"}
SUBSTITUTIONS = {"bash": '"$({})"', "fish": "({})", "powershell": "({})"}
EVAL_COMMANDS = {"bash": 'eval "$({})"', "fish": "{} | source", "powershell": "{} | Out-String | Invoke-Expression"}
POWERSHELL_QUOTES = str.maketrans(
    {quote: quote * 2 for quote in "'\u2018\u2019\u201a\u201b"}
)  # each of them ends a string


def lines(settings: Mapping[str, str | None], shell: str, *, key: str) -> Iterator[str]:
    """Yield one line per variable; a variable without a value is set to `key`, an expression of the shell.

    >>> list(lines({"A": "it's", "K": None}, "fish", key=variable("PI_API_KEY", "fish")))
    ["set -gx A 'it\\\\'s'", 'set -gx K "$PI_API_KEY"']
    """
    for name, value in settings.items():
        yield PREFIXES[shell].format(name) + (key if value is None else quoted(value, shell))


def removal(name: str, shell: str) -> str:
    """Return the line that removes a variable."""
    return REMOVALS[shell].format(name)


def function(name: str, arguments: Sequence[str], shell: str) -> str:
    """Return the line that puts arguments before those with which a program is called.

    >>> print(function("codex", ["-m", "my model"], "bash"))
    codex() { command codex -m 'my model' "$@"; }
    """
    rest = " ".join(quoted(word, shell) for word in arguments)
    return FUNCTIONS[shell].format(name=name, words=f"{name} {rest}", rest=rest)


def variable(name: str, shell: str) -> str:
    """Return the expression for the value of a variable."""
    return REFERENCES[shell].format(name)


def kept_key(config_dir: str | None, shell: str) -> str:
    """Return the expression for the key that `pi key` keeps, with the PI_CONFIG_DIR of this run, if it has one.

    >>> print(kept_key(None, "fish"), kept_key("/my pods", "bash"))
    (pi key show) "$(env 'PI_CONFIG_DIR=/my pods' pi key show)"
    """
    place = f"env {quoted(f'PI_CONFIG_DIR={config_dir}', shell)} " if config_dir else ""
    return SUBSTITUTIONS[shell].format(f"{place}pi key show")


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

"""The words of the commands that run without Typer, and the reader of their plain command lines.

What this table does not have, a help and every mistake are for Typer, which reads the line again from its beginning.
`tests/commands/test_quick.py` holds the table to the options of Typer's commands, and both readers to the same calls.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

ON: Any = True
OFF: Any = False
ONE, MANY = "one value", "a list of values"

Kind = Any
"""What an option does to its parameter: set it to `ON` or `OFF`, to `ONE` value, or add a value to `MANY`."""


class Words(NamedTuple):
    """A command: where its function is in `pi_cli.commands`, its options, and the parameter that takes other words."""

    location: str
    options: Mapping[str, tuple[str, Kind]]
    defaults: Mapping[str, Any]
    others: str | None = None
    are_options_first: bool = False


POD = {"--pod": ("pod", MANY), "-p": ("pod", MANY)}
EVERY = {"--all": ("every", ON), "-a": ("every", ON)}
WIDE, JSON = {"--wide": ("wide", ON)}, {"--json": ("as_json", ON)}
QUIET = {"--quiet": ("quiet", ON), "-q": ("quiet", ON)}
PODS = Words(
    "pods_list.show",
    {"--check": ("check", ON), **WIDE, **QUIET, **JSON},
    {"check": False, "wide": False, "quiet": False, "as_json": False},
)
TABLE: Mapping[tuple[str, ...], Words] = {
    ("pods", "list"): PODS,
    ("pods",): PODS,
    ("list",): Words(
        "list.list_models",
        {
            **POD, **EVERY, "--check": ("check", ON), "--no-check": ("check", OFF),
            "--watch": ("watch", ON), "-w": ("watch", ON), **WIDE, **QUIET, **JSON,
        },
        {
            "pod": None, "every": False, "check": True, "watch": False, "wide": False, "quiet": False, "as_json": False,
        },
    ),
    ("stop",): Words(
        "stop.stop",
        {**EVERY, **POD, "--forget": ("forget", ON), **JSON},
        {"names": None, "every": False, "pod": None, "forget": False, "as_json": False},
        "names",
    ),
    ("logs",): Words(
        "logs.logs",
        {
            **POD, "--lines": ("lines", ONE), "-n": ("lines", ONE), "--since": ("since", ONE), "--grep": ("grep", ONE),
            "--follow": ("follow", ON), "-f": ("follow", ON), "--no-follow": ("follow", OFF), **JSON,
            "--all-lines": ("all_lines", ON),
        },
        {
            "names": None, "pod": None, "lines": None, "since": None, "grep": None, "follow": True, "as_json": False,
            "all_lines": False,
        },
        "names",
    ),
    ("ssh",): Words(
        "ssh.ssh",
        {"--pod": ("pod", ONE), "-p": ("pod", ONE), "--tty": ("tty", ON), "-t": ("tty", ON)},
        {"words": None, "pod": None, "tty": False},
        "words",
        are_options_first=True,
    ),
}  # fmt: skip


class Call(NamedTuple):
    """A function of `pi_cli.commands`, and its arguments."""

    location: str
    arguments: Mapping[str, Any]

    def run(self) -> None:
        """Call the function. None of these commands speaks TLS: asyncio takes a tenth less without it."""
        sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]
        from importlib import import_module

        module, _, function = self.location.rpartition(".")
        getattr(import_module(f"pi_cli.commands.{module}"), function)(**self.arguments)


def read(arguments: Sequence[str]) -> Call | None:
    """Read a command line of the table; None if it is not one, or has a word that only Typer knows what to do with.

    >>> read(["stop", "q", "--json"]).arguments["names"], read(["stop", "--help"]), read(["start", "m"])
    (['q'], None, None)
    """
    for command, words in TABLE.items():
        if tuple(arguments[: len(command)]) == command:
            return _read(words, arguments[len(command) :])
    return None


def _read(words: Words, arguments: Sequence[str]) -> Call | None:
    given: dict[str, Any] = dict(words.defaults)
    others: list[str] = []
    rest = iter(arguments)
    for word in rest:
        if word == "--":
            others += rest
        elif not word.startswith("-") or word == "-":
            others.append(word)
            if words.are_options_first:
                others += rest
        elif not _take(words, word, rest, given):
            return None
    if others:
        if words.others is None:
            return None
        given[words.others] = others
    return Call(words.location, given)


def _take(words: Words, word: str, rest: Iterator[str], given: dict[str, Any]) -> bool:
    """Set the parameter of an option; return whether that was possible."""
    option, has_value, value = word.partition("=")
    if option not in words.options or (has_value and not option.startswith("--")):
        return False
    name, kind = words.options[option]
    if kind in (ON, OFF):
        given[name] = kind
        return not has_value
    values = [value] if has_value else [*itertools.islice(rest, 1)]
    given[name] = [*(given[name] or ()), *values] if kind is MANY else "".join(values)
    return bool(values)

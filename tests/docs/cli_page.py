"""Write docs/cli.md from the commands' own help: `python -m tests.docs.cli_page > docs/cli.md`.

The parameters are formatted here and not by Typer, whose releases format them differently.
"""

import sys
from collections.abc import Iterator
from typing import Any

from typer import Context
from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from pi_cli.commands.app import app

HEAD = """\
<!-- Written by `make docs` from the commands' own help. Change the help, not this page. -->

# Commands
"""

TAIL = """\
Exit codes and what every error asks for: [errors.md](errors.md).
"""


def page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *sections(get_command(app), "pi"), TAIL])


def sections(command: Any, words: str) -> Iterator[str]:
    """Yield the section of a command, then those of its subcommands, in the order of `--help`."""
    yield section(command, words)
    if isinstance(command, TyperGroup):
        for name in command.commands:
            yield from sections(command.get_command(Context(command), name), f"{words} {name}")


def section(command: Any, words: str) -> str:
    shown = [each for each in command.params if not each.hidden]
    arguments = [each for each in shown if isinstance(each, TyperArgument)]
    options = [each for each in shown if isinstance(each, TyperOption)]
    usage = [words, *(["[OPTIONS]"] if options else []), *(each.metavar or "" for each in arguments)]
    if isinstance(command, TyperGroup):
        usage.append("[COMMAND …]" if command.invoke_without_command else "COMMAND …")
    rows = [(each.metavar or "", description(each)) for each in arguments] + [
        (spelling(each), description(each)) for each in options
    ]
    return "\n".join([f"## {words}", "", f"    {' '.join(usage)}", "", *prose(command.help or ""), *table(rows)])


def prose(help: str) -> Iterator[str]:
    """Yield a docstring as Markdown; a paragraph that begins with `\\b` is a heading and lines to be kept."""
    for paragraph in help.split("\n\n"):
        if paragraph.startswith("\b\n"):
            heading, *lines = paragraph.removeprefix("\b\n").splitlines()
            yield from [heading, "", *(f"    {line.strip()}" for line in lines), ""]
        else:
            yield from [" ".join(paragraph.split()), ""]


def table(rows: list[tuple[str, str]]) -> Iterator[str]:
    if rows:
        yield from ["| | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in rows), ""]


def spelling(option: TyperOption) -> str:
    """Return an option as it is typed: `--pod`, `-p POD`."""
    names = "`, `".join([*option.opts, *option.secondary_opts])
    if option.is_flag or option.secondary_opts:
        return names
    return f"{names} {option.metavar or str(option.name).upper()}"


def description(parameter: TyperArgument | TyperOption) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    if isinstance(parameter, TyperOption) and parameter.required:
        return f"{text} Required."
    if isinstance(parameter.default, str):
        return f"{text} Default: {parameter.default}."
    if isinstance(parameter, TyperOption) and parameter.secondary_opts:
        return f"{text} Default: `{parameter.opts[0] if parameter.default else parameter.secondary_opts[0]}`."
    return text


if __name__ == "__main__":
    sys.stdout.write(page())

"""docs/cli.md is what the commands' help says, and the help fits a terminal of 80 columns."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from pi_cli.commands.app import app
from tests.docs import cli_page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
COLUMNS = 80


def helps(command: Any, argv: str = "pi") -> Iterator[tuple[str, str]]:
    """Yield (command line, help) for a command and its subcommands."""
    context = Context(command, info_name=argv, terminal_width=COLUMNS, max_content_width=COLUMNS)
    yield argv, command.get_help(context)
    if isinstance(command, TyperGroup):
        for name in command.commands:
            yield from helps(command.get_command(context, name), f"{argv} {name}")


HELPS = dict(helps(get_command(app)))


def test_the_page_of_commands_is_what_the_help_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == cli_page.page(), "write it again with `make docs`"


@pytest.mark.parametrize("argv", HELPS)
def test_the_help_fits_80_columns(argv: str) -> None:
    assert [line for line in HELPS[argv].splitlines() if len(line) > COLUMNS] == []

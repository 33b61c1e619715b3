"""docs/cli.md is what the commands' help says."""

from pathlib import Path

from tests.docs import cli_page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_of_commands_is_what_the_help_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == cli_page.page(), "write it again with `make docs`"

"""`pi help`: the help of a command, or a page of the documentation."""

import difflib
from typing import Annotated, Any

import typer

from pi_cli.errors import BadUsage
from pi_cli.hints import fill
from pi_cli.store.pages import PAGES
from pi_cli.view import pages, terminal


def complete_subject(incomplete: str) -> list[str]:
    from pi_cli.commands.app import Commands

    return [name for name in dict.fromkeys([*PAGES, *Commands.table]) if name.startswith(incomplete)]


def help_(
    context: typer.Context,
    subject: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND | PAGE]",
            help="A command, for example `pods setup`, or a page.",
            show_default=False,
            autocompletion=complete_subject,
        ),
    ] = None,
) -> None:
    """Show the help of a command, or a page of the documentation.

    A page that is longer than the screen is shown by the pager that the variable PAGER names, or by less. In a pipe it
    is printed as Markdown. `pi help pages` says what is on which page.

    \b
    Examples:
      pi help
      pi help pods setup
      pi help errors
    """
    words = subject or []
    page = "-".join(words).lower()
    command = _help_of_command(context.find_root(), words)
    if page in PAGES:
        pages.show(page, f"{command}\n\n" if command and words else "")
    elif command:
        pages.show_text(f"{command}\n", terminal.out().height)
    else:
        raise BadUsage(f"there is no command or page `{' '.join(words)}`", hint=_offer(words))


def _help_of_command(root: Any, words: list[str]) -> str:
    """Return the help of a command of pi, as `pi COMMAND --help` prints it; empty if there is none."""
    context, rest = root, list(words)
    while rest:
        group: Any = context.command
        if not hasattr(group, "commands"):
            return ""
        name = next((name for name in (" ".join(rest[:2]), rest[0]) if group.get_command(context, name)), "")
        if not name:
            return ""
        del rest[: name.count(" ") + 1]
        context = typer.Context(group.get_command(context, name), info_name=name, parent=context)
    return str(context.get_help())


def _offer(words: list[str]) -> str:
    from pi_cli.commands.app import Commands

    subjects = [*Commands.table, *PAGES]
    similar = difflib.get_close_matches("-".join(words).lower(), subjects, n=2) or [
        each for each in subjects if words[0].lower() in each
    ]
    meant = " or ".join(fill("`pi help {subject}`", subject=each) for each in dict.fromkeys(similar[:2]))
    everything = "`pi help` lists the commands, `pi help pages` the pages"
    return f"did you mean {meant}? {everything}" if meant else everything

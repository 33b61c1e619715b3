"""Commands that are imported when they are called: help, and every command, would else wait for all the others."""

import threading
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup


class Command(NamedTuple):
    """A command before it is imported: where it is in `pi_cli.commands`, and the first sentence of its help.

    `place` is `module.function`, or `module.app` for commands with subcommands.
    """

    place: str
    help: str
    settings: Mapping[str, Any] = MappingProxyType({})


class LazyGroup(TyperGroup):
    """Commands by name; a subclass has the table."""

    table: ClassVar[Mapping[str, Command]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("Any", dict.fromkeys(self.table))  # Typer suggests names out of it

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name in self.table and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _imported(cmd_name, self.table[cmd_name])
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.help) for name, each in self.table.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self.commands = {name: TyperCommand(name, help=each.help) for name, each in self.table.items()}
        return super().shell_complete(ctx, incomplete)


def load_ahead(*modules: str) -> None:
    """Import modules in a thread while a pod is waited for; an import of one of them waits for that thread."""
    threading.Thread(target=lambda: [import_module(name) for name in modules], daemon=True).start()


def _imported(name: str, command: Command) -> Any:
    module, _, found = command.place.rpartition(".")
    given = getattr(import_module(f"pi_cli.commands.{module}"), found)
    if isinstance(given, typer.Typer):
        return typer.main.get_command(given)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, **command.settings)(given)
    return typer.main.get_command(app)

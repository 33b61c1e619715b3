"""Commands that are imported when they are called: importing all of them would delay the help and every command."""

import threading
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup


class Command(NamedTuple):
    """A command that is not imported yet: where it is in `pi_cli.commands`, and the first sentence of its help.

    Its name in the table may be two words: `models update` is a command of its own, beside `models` with an argument.
    `location` is `module.function`, or `module.app` for a command with subcommands.
    """

    location: str
    help: str
    settings: Mapping[str, Any] = MappingProxyType({})


class LazyGroup(TyperGroup):
    """A group of commands; a subclass defines the table."""

    table: ClassVar[Mapping[str, Command]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("Any", dict.fromkeys(self.table))  # where Typer looks for similar names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name in self.table and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _imported(cmd_name, self.table[cmd_name])
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = " ".join(args[:2])
        if name in self.table and len(args) > 1:
            return name, self.get_command(ctx, name), args[2:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in self.table.items()])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        words = {name: command for name, command in self.table.items() if " " not in name}
        self.commands = {name: TyperCommand(name, help=command.help) for name, command in words.items()}
        return super().shell_complete(ctx, incomplete)


def load_ahead(*modules: str) -> None:
    """Import modules in a thread until a pod answers; an import of one of them elsewhere waits for that thread."""
    threading.Thread(target=lambda: [import_module(name) for name in modules], daemon=True).start()


def _imported(name: str, command: Command) -> Any:
    module, _, attribute = command.location.rpartition(".")
    app_or_function = getattr(import_module(f"pi_cli.commands.{module}"), attribute)
    if isinstance(app_or_function, typer.Typer):
        return typer.main.get_command(app_or_function)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, **command.settings)(app_or_function)
    return typer.main.get_command(app)

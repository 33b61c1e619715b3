"""Commands that are imported when they are called: importing all of them would delay the help and every command."""

import threading
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, cast, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from pi_cli.commands import other_words


class Command(NamedTuple):
    """A command that is not imported yet: where it is in `pi_cli.commands`, and the first sentence of its help.

    Its name in the table may be two words: `models update` is a command of its own, beside `models` with an argument.
    `location` is `module.function`, or `module.app` for a command with subcommands.
    """

    location: str
    help: str
    settings: Mapping[str, Any] = MappingProxyType({})


class PlainCommand(TyperCommand):
    """A command whose usage line has NAME, as every page, instead of Typer's {NAME}."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


class Group(TyperGroup):
    """A group of commands that says in pi's words that it does not have one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            from pi_cli.commands import usage_errors

            raise usage_errors.unknown_command(ctx.command_path, args[0], self.commands)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group of commands; a subclass defines the table, and under which headings of the help its commands are."""

    table: ClassVar[Mapping[str, Command]]
    headings: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("Any", dict.fromkeys(self.table))  # where Typer looks for similar names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name in self.table and self.commands[cmd_name] is None:
            self.commands[cmd_name] = _imported(cmd_name, self.table[cmd_name])
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        args = other_words.without_aliases(args)
        name = " ".join(args[:2])
        if name in self.table and len(args) > 1:
            return name, self.get_command(ctx, name), args[2:]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        del ctx
        width = max(map(len, self.table))
        placed = {name for names in self.headings.values() for name in names}
        others = {"Other commands": tuple(name for name in self.table if name not in placed)}
        for heading, names in {**self.headings, **others}.items():
            if rows := [(name.ljust(width), self.table[name].help) for name in names if name in self.table]:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        words = {name: command for name, command in self.table.items() if " " not in name}
        self.commands = {
            name: TyperCommand(name, help=command.help, short_help=command.help)  # a help alone is cut at 45 letters
            for name, command in words.items()
        }
        return super().shell_complete(ctx, incomplete)


def load_ahead(*modules: str) -> None:
    """Import modules in a thread until a pod answers; an import of one of them elsewhere waits for that thread."""
    threading.Thread(target=lambda: [import_module(name) for name in modules], daemon=True).start()


def resolve_options(function: Any) -> None:
    """Put the options into the signature of a command that only names them (`quick_options`)."""
    if any(isinstance(each, str) for each in function.__annotations__.values()):
        from pi_cli.commands import quick_options

        named = vars(quick_options) | function.__globals__
        function.__annotations__ = get_type_hints(function, named, include_extras=True)


def _imported(name: str, command: Command) -> Any:
    module, _, attribute = command.location.rpartition(".")
    app_or_function = getattr(import_module(f"pi_cli.commands.{module}"), attribute)
    if isinstance(app_or_function, typer.Typer):
        return typer.main.get_command(app_or_function)
    resolve_options(app_or_function)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=PlainCommand, **command.settings)(app_or_function)
    return typer.main.get_command(app)

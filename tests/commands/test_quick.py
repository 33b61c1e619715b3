"""The reader of plain command lines makes the same calls as Typer, or leaves the line to it."""

import inspect
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import Context
from typer.main import get_command

from pi_cli.commands import lazy, logs, other_words, quick_words, usage_errors
from pi_cli.commands.app import app
from pi_cli.commands.quick_words import MANY, OFF, ON, ONE, TABLE, Call, Words
from pi_cli.errors import PiError
from tests.properties import PROPERTY

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
LINE = re.compile(r"(?m)(?:^[ ]{2,}(?:\$ )?|`|\$\()(pi [^\n`)#|><&;]*)")
VALUES = ("dc1", "", "-n", "10m", "--", "a=b", "--json")
COMMANDS = {command: words for command, words in TABLE.items() if command != ("pods",)}


class Typer:
    """pi's commands as Typer reads them, which write down how they are called instead of doing anything."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._pi: Any = get_command(app)

    def calls(self, arguments: Sequence[str]) -> Call | None:
        """Return what is called for a line; None where Typer shows a help or an error."""
        self._calls.clear()
        try:
            self._pi.main(args=list(arguments), prog_name="pi", standalone_mode=False)
        except (usage_errors.UsageError, PiError):
            return None
        return self._calls[0] if self._calls else None

    def replace(self, words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
        module, _, name = words.location.rpartition(".")
        function = getattr(import_module(f"pi_cli.commands.{module}"), name)
        monkeypatch.setattr(f"pi_cli.commands.{words.location}", recording(function, words.location, self._calls))


@pytest.fixture
def typer(monkeypatch: pytest.MonkeyPatch) -> Typer:
    typer = Typer()
    for words in COMMANDS.values():
        typer.replace(words, monkeypatch)
    return typer


def recording(function: Any, location: str, calls: list[Call]) -> Any:
    """Return a function that looks like another one to Typer, and writes down how it is called."""

    def record(**given: Any) -> None:
        calls.append(Call(location, given))

    lazy.resolve_options(function)
    shown: Any = record
    shown.__signature__, shown.__doc__ = inspect.signature(function), function.__doc__
    shown.__annotations__ = function.__annotations__
    return shown


def typer_command(command: Sequence[str]) -> Any:
    found: Any = get_command(app)
    for name in command:
        found = found.get_command(Context(found), name)
    return found


def both(arguments: Sequence[str], typer: Typer) -> tuple[Call | None, Call | None]:
    meant = other_words.without_aliases(list(arguments))
    return quick_words.read(meant), typer.calls(meant)


def lines_with_each_option(words: Words) -> Iterator[list[str]]:
    """Yield every option alone and in pairs, with a value behind it, beside it, and without one, and other words."""
    single: list[list[str]] = []
    for option, (_, kind) in words.options.items():
        single += [[option]] if kind in (ON, OFF) else [[option, "dc1"], [f"{option}=dc1"], [option]]
    single += [["q"], ["--", "q", "--json"], ["-"], [""], ["--help"], ["--no-such-option"]]
    yield []
    yield from single
    yield from (one + other for one, other in itertools.permutations(single, 2))


@pytest.mark.parametrize("command", TABLE, ids=" ".join)
def test_every_option_alone_and_in_pairs_is_read_as_typer_reads_it(
    command: tuple[str, ...], typer: Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    read = 0
    for line in lines_with_each_option(TABLE[command]):
        ours, typers = both([*command, *line], typer)
        assert ours in (None, typers), line
        read += ours is not None
    assert read > len(TABLE[command].options)
    capsys.readouterr()


def documented() -> list[list[str]]:
    """Return the command lines of the pages, as a shell would split them."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        for match in LINE.finditer(page.read_text()):
            try:
                words = shlex.split(match[1])
            except ValueError:
                continue
            found[match[1]] = words[1:]
    return list(found.values())


def is_of_the_table(line: Sequence[str]) -> bool:
    """Return whether a line is of a command whose function is replaced: that of `pi pods setup` would run."""
    return (*line[:1],) in TABLE and (line[0] != "pods" or {*line[1:]} <= {*TABLE["pods",].options, "list", "ls"})


def test_every_documented_line_is_read_as_typer_reads_it(typer: Typer, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in documented() if is_of_the_table(other_words.without_aliases(line))]
    read = [line for line in lines if quick_words.read(other_words.without_aliases(line))]
    assert len(read) > 60
    for line in lines:
        ours, typers = both(line, typer)
        assert ours in (None, typers), line
    for line in (["ls"], ["ps", "-a"], ["rm", "q"], ["pods", "ls"], ["list", "--all"], ["logs", "q", "-n", "1"]):
        ours, typers = both(line, typer)
        assert ours is not None
        assert ours == typers, line
    capsys.readouterr()


@PROPERTY
@given(st.data())
def test_any_words_are_read_as_typer_reads_them(typer: Typer, data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(list(TABLE)))
    options = list(TABLE[command].options)
    words = [*options, *(f"{each}=q" for each in options), *VALUES, "q", "dc1/q", "-aq", "--wid", "-", "list"]
    line = [*command, *data.draw(st.lists(st.sampled_from(words), max_size=5))]
    ours, typers = both(line, typer)
    assert ours in (None, typers), line


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_table_has_every_option_of_the_command(command: tuple[str, ...]) -> None:
    words, found = COMMANDS[command], typer_command(command)
    options: dict[str, tuple[str, Any]] = {}
    for each in found.params:
        if each.param_type_name == "argument":
            assert words.others == each.name
            continue
        kind = MANY if each.multiple else ON if each.is_flag else ONE
        options |= dict.fromkeys(each.opts, (each.name, kind)) | dict.fromkeys(each.secondary_opts, (each.name, OFF))
    assert dict(words.options) == options
    assert words.are_options_first is not found.context_settings.get("allow_interspersed_args", True)


def test_the_help_names_the_number_of_lines_that_logs_has() -> None:
    [lines] = [each for each in typer_command(["logs"]).params if each.name == "lines"]
    assert f"[default: {logs.DEFAULT_LINES};" in lines.help

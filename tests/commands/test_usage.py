"""The command line as it is typed: words of other programs, and mistakes."""

import re
import sys

import pytest

from pi_cli.commands import other_words
from pi_cli.commands.app import Commands
from tests.conftest import Pi


@pytest.mark.parametrize("typed", other_words.ALIASES)
def test_a_word_of_another_program_runs_the_command_that_is_meant(pi: Pi, typed: str) -> None:
    meant = [word for word in other_words.ALIASES[typed] if not word.startswith("-")]
    assert pi(*typed.split(), "--help") == pi(*meant, "--help")
    assert pi(*typed.split(), "--help").code == 0


def test_no_alias_hides_a_command() -> None:
    assert not set(other_words.ALIASES) & set(Commands.table)
    assert not set(other_words.HINTS) & {*Commands.table, *other_words.ALIASES}


def test_aliases_are_completed_like_the_commands_they_stand_for(pi: Pi) -> None:
    pressed = {"_PI_COMPLETE": "complete_bash", "COMP_WORDS": "pi rm --for", "COMP_CWORD": "2"}
    assert pi(**pressed).out.split() == ["--forget"]
    assert "ls" not in pi(**(pressed | {"COMP_WORDS": "pi ", "COMP_CWORD": "1"})).out.split()


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("serve", "there is no command `pi serve`", "pi start MODEL --name NAME"),
        ("pull Qwen/Qwen3-8B", "there is no command `pi pull`", "downloads the model on the pod"),
        ("frward q", "there is no command `pi frward`", "did you mean `pi forward`?"),
        ("pods setp", "there is no command `pi pods setp`", "did you mean `pi pods setup`?"),
        ("pods create", "there is no command `pi pods create`", "pi pods setup NAME"),
        ("key foo", "there is no command `pi key foo`", "see `pi key --help`"),
        ("list --al", "`pi list` has no option `--al`", "did you mean `--all`?"),
        ("start --gpus abc", "`--gpus` takes a whole number, 1 or more, not `abc`", "see `pi start --help`"),
        ("forward q --port 99999", "`--port` takes a whole number from 1 to 65535, not `99999`", "forward --help"),
        ("prompt q --api foo", "`--api` takes chat or responses, not `foo`", "see `pi prompt --help`"),
        ("stop --pod", "`--pod` needs a value", "see `pi stop --help`"),
        ("stop --all=3", "`--all` takes no value", "see `pi stop --help`"),
        ("pods setup", "NAME is missing", "usage: pi pods setup NAME [SSH]…; see"),
        ("list a b", "unexpected argument `a`", "see `pi list --help`"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_answered_in_two_lines(pi: Pi, words: str, message: str, hint: str) -> None:
    result = pi(*words.split())
    error, said = result.err.splitlines()
    assert (result.code, result.out, error) == (2, "", f"error: {message}")
    assert said.startswith("hint: ")
    assert hint in said


@pytest.mark.parametrize("word", sorted(other_words.HINTS))
def test_every_word_of_another_program_leads_to_a_command_of_pi(word: str) -> None:
    hint = other_words.hint("pi", word) or ""
    named = re.findall(r"`pi (\w+)", hint)
    assert named or "uv tool upgrade" in hint
    assert {name for name in named if name not in Commands.table} <= {"completion"}


def test_the_version_shows_what_a_report_needs(pi: Pi) -> None:
    assert pi("--version") == pi("-V")
    told = pi("version", "--json").json
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["asyncssh"]
    assert f"pi {told['pi']}\n" in pi("version").out


def test_the_help_lists_every_command_once_and_begins_with_setting_up(pi: Pi) -> None:
    lines = pi("--help").out.splitlines()
    commands = lines[lines.index("Set up:") : next(index for index, line in enumerate(lines) if "Pages, with" in line)]
    listed = [line[2:].split("  ")[0] for line in commands if line.startswith("  ")]
    assert sorted(listed) == sorted(Commands.table)
    assert listed[0] == "key"


def test_colours_are_switched_by_an_option_and_a_variable(pi: Pi) -> None:
    coloured = pi("stop", "q", CLICOLOR_FORCE="1").err
    assert "\x1b[" in coloured
    assert "\x1b[3" not in pi("--no-color", "stop", "q", CLICOLOR_FORCE="1").err
    assert "\x1b" not in pi("stop", "q", CLICOLOR_FORCE="0").err

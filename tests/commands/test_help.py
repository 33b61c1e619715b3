"""`pi help`: commands and pages; and pi without a command."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pi_cli.store.pages import PAGES
from pi_cli.view import pages
from tests.conftest import Pi
from tests.every import every
from tests.terminal import at_a_terminal


def test_pi_without_a_command_prints_the_help(pi: Pi) -> None:
    bare = pi()
    assert (bare.code, bare.err) == (0, "")
    assert bare.out == pi("--help").out == pi("help").out
    assert "Pages, with `pi help PAGE`: readme, pages, " in bare.out
    assert pi("--nonsense").code == 2


def test_a_group_without_a_command_prints_its_help(pi: Pi) -> None:
    bare = pi("key")
    assert (bare.code, bare.out) == (0, pi("key", "--help").out)


@pytest.mark.parametrize("words", ["start", "pods", "pods setup", "models update", "key new"])
def test_the_help_of_a_command(pi: Pi, words: str) -> None:
    shown = pi("help", *words.split())
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == pi(*words.split(), "--help").out
    assert shown.out.startswith(f"Usage: pi {words} ")


def test_a_page_in_a_pipe_is_markdown(pi: Pi) -> None:
    shown = pi("help", "errors")
    assert shown.code == 0
    assert shown.out.startswith("# Exit codes and errors\n\n| code |")
    assert "\x1b" not in shown.out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_page_in_another_encoding_lacks_only_some_characters(encoding: str) -> None:
    environ = os.environ | {"PYTHONIOENCODING": encoding}
    shown = subprocess.run([sys.executable, "-m", "pi_cli", "help", "errors"], capture_output=True, env=environ)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.decode(encoding).startswith("# Exit codes and errors\n\n| code |")


def test_a_page_with_the_name_of_a_command_follows_its_help(pi: Pi) -> None:
    shown = pi("help", "ssh").out
    assert shown.startswith(pi("ssh", "--help").out + "\n# SSH\n\npi logs in to pods")


def test_pages_are_found_in_any_case_and_in_two_words(pi: Pi) -> None:
    assert pi("help", "Errors").out == pi("help", "errors").out
    assert pi("help", "vllm", "arguments").out.startswith("# Arguments after `--vllm`\n")


@every(sorted(PAGES))
def test_no_page_links_to_a_file(name: str) -> None:
    text = pages.markdown(name)
    assert [link[0] for link in pages.LINK.finditer(text) if "://" not in link[2]] == []
    assert "<picture" not in text


def test_links_to_pages_name_the_command(pi: Pi) -> None:
    assert "measured (`pi help performance`)" in pi("help", "readme").out
    assert "`pi help ssh`" in pi("help", "reference").out
    assert "readme (`pi help readme`)" in pi("help", "pages").out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("erors", "did you mean `pi help errors`? "),
        ("pod setup", "did you mean `pi help pods`? "),
        ("sto", "did you mean `pi help stop`"),
        ("qqqqq", "`pi help` lists the commands, `pi help pages` the pages\n"),
        ("start nonsense", "did you mean `pi help start`"),
    ],
)
def test_an_unknown_subject(pi: Pi, words: str, hint: str) -> None:
    result = pi("help", *words.split())
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: there is no command or page `{words}`\nhint: {hint}")


def test_a_long_page_goes_through_the_pager_of_the_user(tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text('#!/bin/sh\necho "turning pages with $LESS"\nhead -n 3\n')
    pager.chmod(stat.S_IRWXU)
    with at_a_terminal("help", "errors", environ={"PAGER": str(pager), "LESS": "-i"}) as terminal:
        assert terminal.wait() == 0
    assert "turning pages with -i -R\n" in terminal.text
    assert "Exit codes and errors" in terminal.text
    assert len(terminal.text.splitlines()) < 10


def test_a_text_that_fits_the_screen_needs_no_pager() -> None:
    with at_a_terminal("help", "key", "new", environ={"PAGER": "echo paged; cat"}) as terminal:
        assert terminal.wait() == 0
    assert "Usage: pi key new" in terminal.text
    assert "paged" not in terminal.text


def test_a_page_on_a_terminal_without_colours() -> None:
    with at_a_terminal("help", "performance", environ={"NO_COLOR": "1", "PAGER": "cat"}) as terminal:
        assert terminal.wait() == 0
    assert "\x1b[3" not in terminal.raw
    assert max(map(len, terminal.text.splitlines())) <= 80


def test_subjects_are_completed(pi: Pi) -> None:
    line = {"_PI_COMPLETE": "complete_bash", "COMP_WORDS": "pi help p", "COMP_CWORD": "2"}
    names = pi(**line).out.split()
    assert {"pods", "providers", "performance", "prompt"} <= set(names)

"""Any text can be pasted as an ssh command: it is split as a shell does, or refused."""

import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pi_cli.errors import PiError
from pi_cli.ssh import command_words
from pi_cli.ssh.ssh_command import lasting, parse
from tests.properties import PROPERTY, texts_of

PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=8)
PASTED = texts_of(
    "ssh ", "-p ", "-i ", "-o ", "-J ", "-F ", "-l ", " ", "\n", "'", '"', "\\", "$", "`", "#", ";", "~", "@", ":",
    "[", "]", "{", "}", "<", ">", "-", "--", "=", "/", "%", "root@h", "ssh://", "22", "$HOME", "```", "null", "C:\\",
)  # fmt: skip
PATHS = PRINTABLE.map(lambda text: text.strip().replace('"', "").replace("$", "")).filter(bool)
OPTIONS = st.one_of(
    st.integers(1, 65535).map(lambda port: ["-p", str(port)]),
    PATHS.map(lambda path: ["-i", f"keys/{path}"]),
    PATHS.map(lambda path: ["-o", f"IdentityFile=/{path}"]),
    PATHS.map(lambda path: ["-F", path]),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True).map(lambda user: ["-l", user]),
    st.sampled_from([["-4"], ["-A"], ["-o", "ConnectTimeout=60"], ["-J", "a@b:22"], ["-o", "ProxyCommand=nc %h '%p'"]]),
)
COMMANDS = st.tuples(st.lists(OPTIONS, max_size=5), st.sampled_from(["h", "root@h", "root@1.2.3.4", "ssh://u@h:22"]))


@PROPERTY
@given(st.lists(PRINTABLE, max_size=6))
def test_a_quoted_word_is_read_as_the_same_word(words: list[str]) -> None:
    assert [word.text for word in command_words.split(shlex.join(words))] == words


@PROPERTY
@given(st.text() | PASTED)
def test_any_text_is_an_ssh_command_or_refused(text: str) -> None:
    for read in (parse, lasting):
        with suppress(PiError):
            read(text)


@PROPERTY
@given(COMMANDS)
@example(([["-i", "keys/a\\b"], ["-i", 'keys/"']], "h"))
def test_a_command_means_the_same_when_it_is_remembered(
    environment: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[list[list[str]], str]
) -> None:
    options, host = command
    text = shlex.join(["ssh", *(word for option in options for word in option), host])
    monkeypatch.chdir(environment)
    try:
        parsed = parse(text)
    except PiError:
        return
    remembered = lasting(text)
    monkeypatch.chdir("/")
    assert parse(remembered).arguments() == parsed.arguments()
    assert lasting(remembered) == remembered

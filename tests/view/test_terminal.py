"""JSON on stdout: readable in every language, and unable to steer a terminal."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pi_cli.view import terminal

UNSAFE = "".join(map(chr, (0x1B, 0x7F, 0x80, 0x9B, 0x9F, 0x61C, 0x200E, 0x200F, 0x202A, 0x202E, 0x2066, 0x2069)))
READABLE = "naïve 日本語 עברית العربية 👩‍💻 e\u0301 \u00a0¿"


@pytest.mark.parametrize("show", [terminal.show_json, terminal.show_json_line])
@pytest.mark.parametrize(
    "data", [{"name": UNSAFE}, {UNSAFE: 1}, [f"q{UNSAFE}\u202ecod.exe"]], ids=["value", "key", "list"]
)
def test_characters_that_steer_a_terminal_are_escaped_in_json(
    show: Callable[[Any], None], data: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    show(data)
    text = capsys.readouterr().out
    assert not set(UNSAFE) & set(text)
    assert "\\u009b" in text
    assert "\\u202e" in text
    assert json.loads(text) == data


@pytest.mark.parametrize("show", [terminal.show_json, terminal.show_json_line])
def test_lone_surrogates_are_escaped_in_json(show: Callable[[Any], None], capsys: pytest.CaptureFixture[str]) -> None:
    show({"file": "caf\udce9", "half": "\ud83d"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"file": "caf\udce9", "half": "\ud83d"}


@pytest.mark.parametrize("show", [terminal.show_json, terminal.show_json_line])
def test_letters_of_all_languages_stay_readable_in_json(
    show: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    show({READABLE: READABLE})
    assert capsys.readouterr().out.count(READABLE) == 2

"""The text that a terminal must never get from a model, a pod or a log."""

import itertools

import pytest

from pi_cli.safe import Sanitizer, safe
from tests.every import every

HOSTILE = [
    ("\x1b]52;c;c3RvbGVu\x07paste", "paste"),
    ("\x1b]0;title\x1b\\text", "text"),
    ("\x9d0;title\x9ctext", "text"),
    ("\x1b]8;;http://bad.example\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1bP$q\"p\x1b\\text", "text"),
    ("\x90+q544e\x9ctext", "text"),
    ("\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\text", "text"),
    ("\x1b[2J\x1b[H\x1b[6n\x1b[?1049h\x1b[>4;2mtext", "text"),
    ("\x9b2Jtext", "text"),
    ("\x1bc\x1b(0\x1b#8\x1b7text", "text"),
    ("ab\bc", "ab^Hc"),
    ("\a\0\x7f", "^G^@^?"),
    ("\x85\x84", "<U+0085><U+0084>"),
    ("\x1b", "^["),
    ("\x1b\x1b\x1b[31m", "^[^["),
    ("\u202ecod.exe\u2066", "<U+202E>cod.exe<U+2066>"),
    ("half \ud83d a character", "half \ufffd a character"),
    ("\x1b]never ended\nnext line", "never ended\nnext line"),
    ("\x1bPnever ended", "never ended"),
    ("\x1b[31\nnext line", "31\nnext line"),
    ("over\rwritten\r\nline", "over\nwritten\nline"),
]  # fmt: skip

HARMLESS = ["", "plain\n\ttext", "[bold]x[/bold] [/INST] :smile: {} %s \\x1b", "naïve 日本語 👩‍💻 עברית ‎ e\u0301"]


@every(HOSTILE)
def test_sequences_that_steer_a_terminal_are_removed_or_made_visible(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert safe(text) == text
    assert safe(text, colour=True, returns=True) == text


@every(HOSTILE)
def test_the_result_does_not_depend_on_how_the_text_is_split(text: str, shown: str) -> None:
    for cuts in itertools.chain(itertools.combinations(range(1, len(text)), 2), [range(1, len(text))]):
        sanitizer = Sanitizer(colour=False)
        pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
        assert "".join([*map(sanitizer.feed, pieces), sanitizer.end()]) == shown


def test_only_colours_are_kept_if_colour_is_set() -> None:
    text = "\x1b[1;31mred\x1b[0m \x1b[38:5:1mred\x1b[m \x1b[2K\x1b[?25l\x9b31m \x1b]0;t\x07"

    assert safe(text, colour=True) == "\x1b[1;31mred\x1b[0m \x1b[38:5:1mred\x1b[m  "
    assert safe(text) == "red red  "


def test_carriage_returns_are_kept_if_returns_is_set() -> None:
    assert safe("10%\r20%\r\n", returns=True) == "10%\r20%\r\n"


def test_an_unfinished_sequence_is_shown_after_4096_characters() -> None:
    sanitizer = Sanitizer(colour=False)

    shown = "".join(sanitizer.feed("x" if piece else "\x1b]") for piece in range(10_000))

    assert len(shown) > 9000 - 4096


def test_long_hostile_text_is_made_safe_quickly() -> None:
    for text in (
        "\x1b]" * 200_000,
        "\x9d" * 400_000,
        "\x1b[" + "1" * 400_000,
        "\x1b" + " " * 400_000,
        "\x1bP" + "x" * 400_000,
    ):
        assert "\x1b" not in safe(text).replace("^[", "")

"""Lines that pi prints itself look as rich prints them, which draws the live views beside them."""

import io
import itertools
from importlib.metadata import version

import pytest
from rich.console import Console
from rich.text import Text

from pi_cli.view import lines, terminal

PARTS = [
    ("error:", "bold red"),
    (" no `q` on ", ""),
    ("dc1", "bold"),
    ("  ", "dim"),
    ("模型 🚀", "green"),
    ("\r!", "dim"),
]
IS_RICH_14 = int(version("rich").partition(".")[0]) >= 14  # knows TTY_COMPATIBLE, and that an empty variable is as none
VARIABLES = {
    "NO_COLOR": (None, "", "1") if IS_RICH_14 else (None, "1"),
    "TERM": ("xterm-256color", "dumb", "unknown"),
    "FORCE_COLOR": (None, "", "1") if IS_RICH_14 else (None, "1"),
    "TTY_COMPATIBLE": (None, "0", "1") if IS_RICH_14 else (None,),
}


class Screen(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
def test_a_line_is_written_as_rich_writes_it(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    for values in itertools.product(*VARIABLES.values()):
        for name, value in zip(VARIABLES, values, strict=True):
            monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
        ours, richs = Screen(is_terminal=is_terminal), Screen(is_terminal=is_terminal)
        lines.write(ours, [PARTS])
        console = Console(file=richs, width=lines.UNLIMITED, highlight=False, markup=False, emoji=False)
        console.print(Text.assemble(*PARTS), soft_wrap=True)
        assert seen(ours) == seen(richs), values


def seen(screen: Screen) -> Text:
    """Return what a terminal shows: blanks have no style that could be seen."""
    text = Text.from_ansi(screen.getvalue())
    text.spans = [span for span in text.spans if text.plain[span.start : span.end].strip()]
    return text


@pytest.mark.parametrize("columns", [None, "", "x", "132"])
def test_the_width_of_a_terminal_is_what_the_user_says_or_the_terminal_itself(
    monkeypatch: pytest.MonkeyPatch, columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS") if columns is None else monkeypatch.setenv("COLUMNS", columns)
    screen = Screen(is_terminal=True)
    monkeypatch.setattr(screen, "fileno", lambda: 1)
    assert lines.width(screen) == (132 if columns == "132" else Console(file=screen, stderr=True).width)
    assert lines.width(Screen(is_terminal=False)) == lines.UNLIMITED


def test_a_text_of_several_lines_keeps_its_styles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.say(("\n$ ", "bold green"), ("pi list", "bold"))
    assert capsys.readouterr().out == "\n\x1b[1;32m$ \x1b[0m\x1b[1mpi list\x1b[0m\n"

"""What a conversation looks like: in a pipe, and on a real (pseudo-)terminal."""

import io
import os
import pty
from collections.abc import Callable, Iterator, Mapping
from threading import Thread

import pytest

from pi_cli.chat.events import ChatEvent, Notice, Text, Thinking, ToolCall, ToolResult, Usage
from pi_cli.view.chat import transcript

CONVERSATION: list[ChatEvent] = [
    Thinking("\n"),
    Thinking("I should"),
    Thinking(" look.\n"),
    Text("\n\n"),
    ToolCall("1", "ls", '{"path": "/srv/app"}'),
    ToolCall("2", "read", '{"file_path": "/srv/x", "limit": 5}'),
    ToolResult("1", "ls", "README.md\nsrc/\ntests/", failed=False),
    ToolResult("2", "read", "error: no such file or directory: /srv/x", failed=True),
    Thinking("\nGood.\n"),
    Text("\n\n"),
    Text("It is\n\n"),
    Text("an app.\n"),
    Usage(100, 12, 0.2),
]

ERR = """\
I should look.
● ls(path=/srv/app)
● read(file_path=/srv/x, limit=5)
  ⎿ README.md (+2 lines)
  ✗ error: no such file or directory: /srv/x
Good.
"""


def in_a_pipe(*events: ChatEvent) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    with transcript(out, err) as draw:
        for event in events:
            draw(event)
    return out.getvalue(), err.getvalue()


Screen = Callable[..., str]


@pytest.fixture
def on_a_terminal() -> Screen:
    """Draw on a pseudo-terminal and return what it got; `out=` sends the answer elsewhere."""

    def draw(*events: ChatEvent, environ: Mapping[str, str] | None = None, out: io.StringIO | None = None) -> str:
        controller, terminal = pty.openpty()
        got: list[bytes] = []
        reader = Thread(target=lambda: got.extend(everything(controller)))
        reader.start()
        colours = {"TERM": "xterm"} if environ is None else environ
        with (
            os.fdopen(terminal, "w", encoding="utf-8") as screen,
            transcript(out or screen, screen, environ=colours) as say,
        ):
            for event in events:
                say(event)
        reader.join()
        os.close(controller)
        return b"".join(got).decode().replace("\r\n", "\n")

    return draw


def everything(controller: int) -> Iterator[bytes]:
    try:
        while piece := os.read(controller, 65536):
            yield piece
    except OSError:  # how Linux says that the terminal was closed
        return


def test_in_a_pipe_stdout_holds_the_answer_and_nothing_else() -> None:
    assert in_a_pipe(*CONVERSATION) == ("It is\n\nan app.\n", ERR)


def test_on_a_terminal_all_but_the_answer_is_dim(on_a_terminal: Screen) -> None:
    screen = on_a_terminal(*CONVERSATION)

    assert "\x1b[2mI should\x1b[0m\x1b[2m look.\x1b[0m\n\x1b[2m● ls(path=/srv/app)\x1b[0m\n" in screen
    assert screen.endswith("\x1b[2mGood.\x1b[0m\nIt is\n\nan app.\n\x1b[2m12 tokens · 60 tok/s\x1b[0m\n")


@pytest.mark.parametrize("environ", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_a_plain_terminal_gets_the_same_text_without_styles(on_a_terminal: Screen, environ: Mapping[str, str]) -> None:
    screen = on_a_terminal(*CONVERSATION, environ=environ)

    assert screen == f"{ERR}It is\n\nan app.\n12 tokens · 60 tok/s\n"


def test_an_answer_in_a_file_is_not_on_the_terminal(on_a_terminal: Screen) -> None:
    file = io.StringIO()
    screen = on_a_terminal(*CONVERSATION, environ={}, out=file)

    assert file.getvalue() == "It is\n\nan app.\n"
    assert screen == f"{ERR}12 tokens · 60 tok/s\n"


HOSTILE = "\x1b]52;c;c3Rv\x07\x1b[2J\x9b6n[bold]x[/bold] [/INST] :smile:\u202e"


def test_a_models_words_cannot_steer_the_terminal(on_a_terminal: Screen) -> None:
    screen = on_a_terminal(
        Thinking(HOSTILE[:5]),
        Thinking(HOSTILE[5:]),
        Text(HOSTILE[:12]),
        Text(HOSTILE[12:]),
        ToolCall("1", f"ls{HOSTILE}", f'{{"path": "{HOSTILE}"}}'),
        ToolCall("1", "ls", '{"path": "\\u001b]0;t\\u0007/tmp"}'),
        ToolResult("1", "ls", HOSTILE, failed=True),
        Notice(HOSTILE),
        environ={},
    )

    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(screen)
    assert screen.count("[bold]x[/bold] [/INST] :smile:<U+202E>") == 6
    assert "● ls(path=/tmp)" in screen


def test_data_in_a_pipe_stays_as_it_is() -> None:
    assert in_a_pipe(Text("\x1b[31mred\x1b[0m\r\n")) == ("\x1b[31mred\x1b[0m\r\n", "")


def test_the_line_is_ended_also_when_the_answer_breaks_off() -> None:
    out = io.StringIO()

    def talk() -> None:
        with transcript(out, io.StringIO()) as draw:
            draw(Text("One, two"))
            raise EOFError

    with pytest.raises(EOFError):
        talk()
    assert out.getvalue() == "One, two\n"


def test_a_long_call_or_result_takes_one_line(on_a_terminal: Screen) -> None:
    screen = on_a_terminal(
        ToolCall("1", "rg", '{"args": "' + "x" * 500 + '\\nsecond line"}'),
        ToolResult("1", "rg", "y" * 500 + "\nb\nc", failed=False),
        environ={},
    )

    call, result = screen.splitlines()
    assert (call[:5], call[-1], len(call)) == ("● rg(", "…", 199)
    assert (result[:5], result[-12:], len(result)) == ("  ⎿ y", "… (+2 lines)", 199)


def test_broken_arguments_are_shown_as_the_model_wrote_them() -> None:
    assert in_a_pipe(ToolCall("1", "ls", '{"path": ')) == ("", '● ls({"path": )\n')
    assert in_a_pipe(ToolCall("1", "ls", "[1]")) == ("", "● ls([1])\n")


def test_a_stream_that_cannot_write_a_character_gets_a_question_mark() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", newline="")
    with transcript(out, io.StringIO()) as draw:
        draw(Text("na\u00efve \ud83d"))
    assert raw.getvalue() == b"na?ve ?\n"


@pytest.mark.parametrize(
    ("usage", "line"),
    [(Usage(5, 1, 0.0), "1 token"), (Usage(5, 300, 2.0), "300 tokens · 150 tok/s")],
)
def test_what_it_took_is_told_where_somebody_looks(on_a_terminal: Screen, usage: Usage, line: str) -> None:
    assert on_a_terminal(usage, environ={}) == f"{line}\n"
    assert in_a_pipe(usage) == ("", "")

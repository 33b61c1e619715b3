"""The output of a conversation, in a pipe and on a real (pseudo-)terminal."""

import io
import json
import os
import pty
import re
import struct
import termios
from collections.abc import Callable, Iterator, Mapping
from fcntl import ioctl
from threading import Thread

import pytest

from pi_cli.chat.events import ChatEvent, Notice, Text, Thinking, ToolCall, ToolResult, Usage
from pi_cli.errors import BadUsage
from pi_cli.view.chat import showing
from tests.view.screen import Screen

WIDTH = 120

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
  ⎿ ls: README.md (+2 lines)
  ✗ read: error: no such file or directory: /srv/x
Good.
"""
COST = "12 tokens · 60 tok/s\n"


def in_a_pipe(*events: ChatEvent) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    with showing(out, err) as screen:
        for event in events:
            screen.draw(event)
    return out.getvalue(), err.getvalue()


Draw = Callable[..., str]


@pytest.fixture
def on_a_terminal() -> Draw:
    """Draw on a pseudo-terminal and return its raw output; `out=` redirects the answer."""

    def draw(*events: ChatEvent, environ: Mapping[str, str] | None = None, out: io.StringIO | None = None) -> str:
        controller, terminal = pty.openpty()
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
        output: list[bytes] = []
        reader = Thread(target=lambda: output.extend(everything(controller)))
        reader.start()
        colours = {"TERM": "xterm"} if environ is None else environ
        with (
            os.fdopen(terminal, "w", encoding="utf-8") as screen,
            showing(out or screen, screen, environ=colours) as conversation,
        ):
            for event in events:
                conversation.draw(event)
        reader.join()
        os.close(controller)
        return b"".join(output).decode().replace("\r\n", "\n")

    return draw


def rows(drawn: str) -> list[str]:
    """Return the rows on the terminal at the end."""
    screen = Screen(WIDTH)
    screen.raw = drawn.replace("\n", "\r\n")
    return screen.rows


def everything(controller: int) -> Iterator[bytes]:
    try:
        while piece := os.read(controller, 65536):
            yield piece
    except OSError:  # raised on Linux when the terminal is closed
        return


def test_in_a_pipe_stdout_has_only_the_answer() -> None:
    assert in_a_pipe(*CONVERSATION) == ("It is\n\nan app.\n", ERR + COST)


def test_on_a_terminal_the_answer_is_set_apart_and_everything_else_is_dim(on_a_terminal: Draw) -> None:
    screen = on_a_terminal(*CONVERSATION)

    assert "\x1b[2mI should\x1b[0m\x1b[2m look.\x1b[0m\n\x1b[2m● ls(path=/srv/app)\x1b[0m\n" in screen
    assert "\x1b[2mGood.\x1b[0m\n\n" in screen
    assert screen.endswith("\x1b[2m12 tokens · 60 tok/s\x1b[0m\n")
    assert rows(screen) == [*ERR.splitlines(), "", "It is", "", "an app.", COST.strip()]


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {}])
def test_a_dumb_terminal_gets_the_same_text_without_styles(on_a_terminal: Draw, environ: Mapping[str, str]) -> None:
    screen = on_a_terminal(*CONVERSATION, environ=environ)

    assert screen == f"{ERR}\nIt is\n\nan app.\n{COST}"


def test_without_colours_the_answer_is_still_distinguishable(
    on_a_terminal: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = on_a_terminal(Thinking("Hm."), Text("# Title\n\n`code` and [a](http://b/)\n\n```py\ndef f(): ...\n```\n"))

    assert "\x1b[2mHm.\x1b[0m" in screen
    assert "\x1b[1mcode\x1b[0m" in screen
    assert not re.search(r"\x1b\[[0-9;]*(3[0-79]|4[0-8]|9[0-7])[;m]", screen)


def test_an_answer_in_a_file_is_not_shown_on_the_terminal(on_a_terminal: Draw) -> None:
    file = io.StringIO()
    screen = on_a_terminal(*CONVERSATION, environ={}, out=file)

    assert file.getvalue() == "It is\n\nan app.\n"
    assert screen == f"{ERR}{COST}"


def test_a_note_does_not_interrupt_the_answer(on_a_terminal: Draw) -> None:
    events = (Text("One, "), Notice("still waiting"), Text("two.\n"))

    assert in_a_pipe(*events) == ("One, two.\n", "note: still waiting\n")
    file = io.StringIO()
    assert on_a_terminal(*events, out=file, environ={}) == "note: still waiting\n"
    assert file.getvalue() == "One, two.\n"
    assert rows(on_a_terminal(*events)) == ["note: still waiting", "One, two."]


def test_an_answer_of_empty_lines_is_not_shown(on_a_terminal: Draw) -> None:
    events = (Thinking("Hm.\n"), Text("\n"), Text("\n"), ToolCall("1", "ls", "{}"))

    assert in_a_pipe(*events) == ("", "Hm.\n● ls()\n")
    assert rows(on_a_terminal(*events)) == ["Hm.", "● ls()"]


HOSTILE = "\x1b]52;c;c3Rv\x07\x1b[2J\x9b6n[bold]x[/bold] [/INST] :smile:\u202e"


def test_model_output_cannot_steer_the_terminal(on_a_terminal: Draw) -> None:
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


def test_an_answer_in_a_pipe_is_unchanged() -> None:
    assert in_a_pipe(Text("\x1b[31mred\x1b[0m\r\n")) == ("\x1b[31mred\x1b[0m\r\n", "")


def test_the_last_line_is_ended_even_after_an_error() -> None:
    out = io.StringIO()

    def talk() -> None:
        with showing(out, io.StringIO()) as screen:
            screen.draw(Text("One, two"))
            raise EOFError

    with pytest.raises(EOFError):
        talk()
    assert out.getvalue() == "One, two\n"


def test_a_long_call_or_result_is_truncated_to_one_line(on_a_terminal: Draw) -> None:
    screen = on_a_terminal(
        ToolCall("1", "rg", '{"args": "' + "x" * 500 + '\\nsecond line"}'),
        ToolResult("1", "rg", "y" * 500 + "\nb\nc", failed=False),
        environ={},
    )

    call, result = screen.splitlines()
    assert (call[:5], call[-1], len(call)) == ("● rg(", "…", WIDTH - 1)
    assert (result[:5], result[-12:], len(result)) == ("  ⎿ y", "… (+2 lines)", WIDTH - 1)


def test_malformed_arguments_are_shown_as_the_model_wrote_them() -> None:
    assert in_a_pipe(ToolCall("1", "ls", '{"path": ')) == ("", '● ls({"path": )\n')
    assert in_a_pipe(ToolCall("1", "ls", "[1]")) == ("", "● ls([1])\n")


def test_characters_that_a_stream_cannot_encode_become_question_marks() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", newline="")
    with showing(out, io.StringIO()) as screen:
        screen.draw(Text("na\u00efve \ud83d"))
    assert raw.getvalue() == b"na?ve ?\n"


@pytest.mark.parametrize(
    ("usage", "line"),
    [
        (Usage(5, 1, 0.0), "1 token\n"),
        (Usage(5, 300, 2.0), "300 tokens · 150 tok/s\n"),
        (Usage(None, None, 2.0), ""),
    ],
)
def test_the_last_line_shows_tokens_and_speed(usage: Usage, line: str) -> None:
    assert in_a_pipe(usage) == ("", line)


def test_every_event_is_a_line_of_json() -> None:
    out, err = io.StringIO(), io.StringIO()
    with showing(out, err, as_json=True) as screen:
        for event in (*CONVERSATION[1:2], *CONVERSATION[4:5], *CONVERSATION[7:8], Text("\x9b2J\ud83d"), Notice("hm")):
            screen.draw(event)
        screen.draw(ToolCall("3", "ls", '{"path": '))
        screen.draw(Usage(100, 12, 0.2))
        screen.draw(Usage(None, None, 0.2))
        screen.fail(BadUsage("no", hint="yes"))

    assert err.getvalue() == ""
    assert out.getvalue().isascii()
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [
        {"type": "thinking", "text": "I should"},
        {"type": "tool_call", "id": "1", "name": "ls", "arguments": {"path": "/srv/app"}},
        {
            "type": "tool_result",
            "id": "2",
            "name": "read",
            "output": "error: no such file or directory: /srv/x",
            "failed": True,
        },
        {"type": "text", "text": "\x9b2J\ud83d"},
        {"type": "notice", "text": "hm"},
        {"type": "tool_call", "id": "3", "name": "ls", "arguments": '{"path": '},
        {"type": "usage", "prompt_tokens": 100, "completion_tokens": 12, "seconds": 0.2, "tokens_per_second": 60.0},
        {"type": "usage", "prompt_tokens": None, "completion_tokens": None, "seconds": 0.2, "tokens_per_second": None},
        {"type": "error", "message": "no", "hint": "yes", "exit_code": 2},
    ]


def test_a_prompt_that_was_not_typed_is_shown() -> None:
    out, err = io.StringIO(), io.StringIO()
    with showing(out, err) as screen:
        screen.quote("What is\n2+2?")
    assert (out.getvalue(), err.getvalue()) == ("", "> What is 2+2?\n")

"""`pi logs` on a terminal: colour, and nothing that would steer it."""

import re
import signal

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.log_watching import readers, speaking, way_to
from tests.terminal import at_a_terminal
from tests.until import until

HOSTILE = b"\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[2J\x1b[6n\x1b[31mred\x1b[0m [/INST] :smile: end\n"


def test_control_sequences_are_neutralised_and_colours_stay(pod: EmbeddedPod) -> None:
    """Faults 62 and 63."""
    with speaking(pod, said=HOSTILE), at_a_terminal("logs", "q", "--no-follow") as terminal:
        assert terminal.wait() == 0
    assert terminal.written == b"\x1b[31mred\x1b[0m [/INST] :smile: end\r\n"


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_gives_output_without_colours(pod: EmbeddedPod, environ: dict[str, str]) -> None:
    """Fault 74."""
    with (
        speaking(pod, "a", said=HOSTILE),
        speaking(pod, "b", said=b"b\n"),
        at_a_terminal("logs", "a", "b", "--no-follow", environ=environ) as terminal,
    ):
        assert terminal.wait() == 0
    lines = sorted(terminal.written.decode().splitlines())
    assert lines == ["a │ red [/INST] :smile: end", "b │ b"]


def test_each_model_has_its_colour_and_none_leaves_its_line(pod: EmbeddedPod) -> None:
    with (
        speaking(pod, "a", said=b"\x1b[31mred\nstill \x1b[2J50%\r100%\n"),
        speaking(pod, "b", said=b"b\n"),
        at_a_terminal("logs", "a", "b", "--no-follow") as terminal,
    ):
        assert terminal.wait() == 0
    assert sorted(terminal.written.decode().split("\r\n")) == [
        "",
        "\x1b[0;33mb │\x1b[0m b",
        "\x1b[0;36ma │\x1b[0m \x1b[31mred\x1b[0m",
        "\x1b[0;36ma │\x1b[0m 100%\x1b[0m",
        "\x1b[0;36ma │\x1b[0m still 50%\x1b[0m",
    ]


def test_a_note_stands_on_a_line_of_its_own(pod: EmbeddedPod) -> None:
    with way_to(pod, "dc1") as way, speaking(pod, said=b"half a line"), at_a_terminal("logs", "q") as terminal:
        until(lambda: b"half a line" in terminal.written)
        way.cut()
        until(lambda: b"reconnected to" in terminal.written)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.written.decode())
    assert plain.splitlines()[:2] == ["half a line", "note: the connection to `dc1` was lost; reconnecting"]


def test_ctrl_c_says_nothing(pod: EmbeddedPod) -> None:
    """Fault 59."""
    with speaking(pod, said=b"one\n"), at_a_terminal("logs", "q") as terminal:
        until(lambda: terminal.written == b"one\r\n")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(5) == 130
    assert terminal.written == b"one\r\n"
    until(lambda: readers(pod) == [])

"""`pi logs` on a terminal: colour, and nothing that would steer it."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.log_watching import readers, speaking, way_to
from tests.until import until

HOSTILE = b"\x1b]52;c;aGk=\x07\x1b]0;title\x07\x1b[2J\x1b[6n\x1b[31mred\x1b[0m [/INST] :smile: end\n"


class Terminal:
    """A terminal with `pi logs` on it, and all that came to it."""

    def __init__(self) -> None:
        self.shown = b""

    @contextmanager
    def with_logs(self, *words: str, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
        ours, theirs = pty.openpty()

        def read() -> None:
            with suppress(OSError):  # a terminal whose programs have ended answers so
                while piece := os.read(ours, 65536):
                    self.shown += piece

        with subprocess.Popen(
            [sys.executable, "-m", "pi_cli", "logs", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | environ,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            reader = threading.Thread(target=read)
            reader.start()
            try:
                yield process
            finally:
                process.kill()
                process.wait()
                reader.join(10)
                os.close(ours)


def test_control_sequences_are_neutralised_and_colours_stay(pod: EmbeddedPod) -> None:
    """Faults 62 and 63."""
    terminal = Terminal()
    with speaking(pod, said=HOSTILE), terminal.with_logs("q", "--no-follow") as shown:
        assert shown.wait(30) == 0
    assert terminal.shown == b"\x1b[31mred\x1b[0m [/INST] :smile: end\r\n"


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colour_gets_none(pod: EmbeddedPod, environ: dict[str, str]) -> None:
    """Fault 74."""
    terminal = Terminal()
    with (
        speaking(pod, "a", said=HOSTILE),
        speaking(pod, "b", said=b"b\n"),
        terminal.with_logs("a", "b", "--no-follow", **environ) as shown,
    ):
        assert shown.wait(30) == 0
    lines = sorted(terminal.shown.decode().splitlines())
    assert lines == ["a │ red [/INST] :smile: end", "b │ b"]


def test_each_model_has_its_colour_and_none_leaves_its_line(pod: EmbeddedPod) -> None:
    terminal = Terminal()
    with (
        speaking(pod, "a", said=b"\x1b[31mred\nstill \x1b[2J50%\r100%\n"),
        speaking(pod, "b", said=b"b\n"),
        terminal.with_logs("a", "b", "--no-follow") as shown,
    ):
        assert shown.wait(30) == 0
    assert sorted(terminal.shown.decode().split("\r\n")) == [
        "",
        "\x1b[0;33mb │\x1b[0m b",
        "\x1b[0;36ma │\x1b[0m \x1b[31mred\x1b[0m",
        "\x1b[0;36ma │\x1b[0m 100%\x1b[0m",
        "\x1b[0;36ma │\x1b[0m still 50%\x1b[0m",
    ]


def test_a_note_stands_on_a_line_of_its_own(pod: EmbeddedPod) -> None:
    terminal = Terminal()
    with way_to(pod, "dc1") as way, speaking(pod, said=b"half a line"), terminal.with_logs("q"):
        until(lambda: b"half a line" in terminal.shown)
        way.cut()
        until(lambda: b"is back" in terminal.shown)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown.decode())
    assert plain.splitlines()[:2] == ["half a line", "note: the link to `dc1` is lost; trying to get it back"]


def test_ctrl_c_says_nothing(pod: EmbeddedPod) -> None:
    """Fault 59."""
    terminal = Terminal()
    with speaking(pod, said=b"one\n"), terminal.with_logs("q") as shown:
        until(lambda: terminal.shown == b"one\r\n")
        shown.send_signal(signal.SIGINT)
        assert shown.wait(5) == 130
    assert terminal.shown == b"one\r\n"
    until(lambda: readers(pod) == [])

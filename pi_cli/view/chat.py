"""A conversation on the screen: the answer on stdout; thinking, tools and everything else dim on stderr."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from pi_cli.chat.events import ChatEvent, Notice, Text, Thinking, ToolCall, ToolResult, Usage
from pi_cli.view.safe import Sanitizer, safe

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
WIDTH = 200  # of a line about a tool where there is no terminal


@contextmanager
def transcript(
    out: TextIO, err: TextIO, *, environ: Mapping[str, str] = os.environ
) -> Iterator[Callable[[ChatEvent], None]]:
    """Draw a conversation as it happens; both streams end at the start of a line, whatever happens."""
    drawing = Transcript(out, err, environ)
    try:
        yield drawing.draw
    finally:
        drawing.end_passage()


class Transcript:
    """Thinking and answer come in pieces and make up passages; every other event is one line."""

    def __init__(self, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._err = err
        self._is_dimmed = is_styled(err, environ)
        self._passage: Passage | None = None
        self._is_answering = False

    def draw(self, event: ChatEvent) -> None:
        match event:
            case Thinking(text):
                self._continue(text, is_answer=False)
            case Text(text):
                self._continue(text, is_answer=True)
            case ToolCall():
                self._line(f"● {event.name}({inline(event.arguments)})")
            case ToolResult():
                first, _, _ = event.output.partition("\n")
                self._line(f"  {'✗' if event.failed else '⎿'} {first}", more(event.output))
            case Notice(text):
                self._line(f"note: {text}")
            case Usage() if self._err.isatty():
                self._line(cost(event))

    def end_passage(self) -> None:
        if self._passage:
            self._passage.end()
            self._passage = None

    def _continue(self, text: str, *, is_answer: bool) -> None:
        if self._passage is None or self._is_answering != is_answer:
            self.end_passage()
            stream = self._out if is_answer else self._err
            self._passage = Passage(stream, dim=self._is_dimmed and not is_answer)
            self._is_answering = is_answer
        self._passage.write(text)

    def _line(self, text: str, tail: str = "") -> None:
        self.end_passage()
        line = Passage(self._err, dim=self._is_dimmed)
        line.write(cut(text, width_of(self._err) - len(tail)) + tail)
        line.end()


class Passage:
    """Text on one stream, without blank lines before and after it, closed by one end of line.

    On a terminal it is made safe; what goes to a file or a pipe is data, and stays as it is.
    """

    def __init__(self, stream: TextIO, *, dim: bool) -> None:
        self._stream = stream
        self._style = (DIM, PLAIN) if dim else ("", "")
        self._sanitizer = Sanitizer(colour=False) if stream.isatty() else None
        self._has_begun = False
        self._blank = ""

    def write(self, text: str) -> None:
        self._write(self._sanitizer.feed(text) if self._sanitizer else text)

    def end(self) -> None:
        if self._sanitizer:
            self._write(self._sanitizer.end())
        if self._has_begun:
            self._put("\n")

    def _write(self, text: str) -> None:
        text = self._blank + text if self._has_begun else text.lstrip("\n")
        shown = text.rstrip("\n")
        self._blank = text[len(shown) :]
        if shown:
            self._has_begun = True
            self._put(self._style[0] + shown + self._style[1])

    def _put(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()


def is_styled(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether a stream may get anything but text: a terminal that knows how, and nobody asked for none."""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb" and not environ.get("NO_COLOR")


def width_of(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH
    except OSError:  # no terminal, no file
        return WIDTH


def inline(arguments: str) -> str:
    """Show the arguments of a call as a person would write them.

    >>> inline('{"path": "/tmp", "ignore": ["*.pyc"]}')
    'path=/tmp, ignore=["*.pyc"]'
    """
    try:
        values = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(values, dict):
        return arguments
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    )


def more(output: str) -> str:
    """Say how much of a result its first line is not.

    >>> more("README.md\\nsrc/\\ntests/")
    ' (+2 lines)'
    """
    count = len(output.splitlines()) - 1
    return f" (+{count} line{'s' if count > 1 else ''})" if count > 0 else ""


def cost(usage: Usage) -> str:
    """Show what an answer took.

    >>> cost(Usage(prompt_tokens=137, completion_tokens=12, seconds=0.25))
    '12 tokens · 48 tok/s'
    """
    tokens = f"{usage.completion_tokens} token{'s' if usage.completion_tokens != 1 else ''}"
    # One piece has no duration, and a handful no meaningful one.
    return f"{tokens} · {usage.completion_tokens / usage.seconds:.0f} tok/s" if usage.seconds > 0.01 else tokens


def cut(text: str, width: int) -> str:
    """Fit foreign text into one line."""
    line = " ".join(safe(text).split("\n"))
    return line if len(line) < width else f"{line[: width - 2]}…"

"""A conversation on the screen: the answer on stdout; thinking, tools and everything else on stderr, dim."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from pi_cli.chat.events import ChatEvent, Notice, Text, Thinking, ToolCall, ToolResult, Usage
from pi_cli.errors import PiError
from pi_cli.safe import Sanitizer, safe
from pi_cli.view import terminal

if TYPE_CHECKING:
    from pi_cli.view.answer import Rendered

DIM, BOLD, PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
WIDTH = 200  # of a line about a tool where there is no terminal


class Screen(Protocol):
    """Where a conversation is shown."""

    def draw(self, event: ChatEvent) -> None:
        """Show what happens in the conversation."""

    def quote(self, prompt: str) -> None:
        """Show what is asked, where nobody has typed it just now."""

    def note(self, text: str) -> None:
        """Show what does not belong to the conversation."""

    def end_passage(self) -> None:
        """End what is being said, wherever it has come to."""

    def fail(self, error: PiError) -> None:
        """Show an error with which the command is going to end; it is printed then."""

    def show_error(self, error: PiError) -> None:
        """Show an error after which the conversation goes on."""


@contextmanager
def shown(
    out: TextIO, err: TextIO, *, as_json: bool = False, environ: Mapping[str, str] = os.environ
) -> Iterator[Screen]:
    """Show a conversation as it happens; both streams end at the start of a line, whatever happens."""
    if as_json:
        yield Events(out)
        return
    transcript = Transcript(out, err, environ)
    try:
        yield transcript
    finally:
        transcript.end_passage()


class Transcript:
    """Thinking and answer come in pieces and make up passages; every other event is one line."""

    def __init__(self, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._err = err
        self._environ = environ
        self._is_styled = is_styled(err, environ)
        self._is_one_screen = out.isatty() and err.isatty()
        self._passage: Passage | Rendered | None = None
        self._is_answering = False
        self._has_shown = False
        self._has_commented = False  # on the answer that is to come
        self._calls: list[str] = []  # of this turn
        self._results = 0

    def draw(self, event: ChatEvent) -> None:
        match event:
            case Thinking(text):
                self._continue(text, is_answer=False)
            case Text(text):
                self._continue(text, is_answer=True)
            case ToolCall():
                self._called(event)
            case ToolResult():
                self._answered(event)
            case Notice(text):
                self.note(text)
            case Usage():
                if event.completion_tokens is not None:
                    self._comment(cost(event))
                self._has_commented = False

    def quote(self, prompt: str) -> None:
        self.end_passage()
        if self._has_shown and self._is_one_screen:
            Passage.put(self._err, "\n")
        self._line(f"> {' '.join(prompt.split())}", style=BOLD)

    def note(self, text: str) -> None:
        """Write a line in the middle of whatever is said, which goes on."""
        if self._passage and not isinstance(self._passage, Passage):
            with self._passage.aside():
                self._note(text)
        elif self._passage and self._is_answering and not self._is_one_screen:
            self._note(text)
        else:
            self.end_passage()
            self._has_commented = True
            self._note(text)

    def fail(self, error: PiError) -> None:
        del error
        self.end_passage()

    def show_error(self, error: PiError) -> None:
        self.end_passage()
        self._has_commented = False
        terminal.show_error(error)

    def end_passage(self) -> None:
        if self._passage:
            self._passage.end()
            self._passage = None

    def _continue(self, text: str, *, is_answer: bool) -> None:
        if self._passage is None or self._is_answering != is_answer:
            self.end_passage()
            if not text.strip("\n"):
                return  # models begin and end with empty lines
            self._is_answering = is_answer
            self._passage = self._answer() if is_answer else Passage(self._err, style=self._style(DIM))
        self._has_commented |= not is_answer
        self._has_shown = True
        self._passage.write(text)

    def _answer(self) -> "Passage | Rendered":
        """Begin an answer, apart from what was said before it."""
        if self._is_one_screen and self._has_commented:
            Passage.put(self._err, "\n")
        if self._out.isatty():
            from pi_cli.view import answer

            if answer.is_renderable(self._out, self._environ):
                return answer.Rendered(self._out)
        return Passage(self._out)

    def _called(self, call: ToolCall) -> None:
        if self._results:
            self._calls, self._results = [], 0
        self._calls.append(call.name)
        self._comment(f"● {call.name}({inline(call.arguments)})")

    def _answered(self, result: ToolResult) -> None:
        """Show the first line of what a tool said, and whose it is where several were asked at once."""
        self._results += 1
        first, _, _ = result.output.partition("\n")
        name = f"{result.name}: " if len(set(self._calls)) > 1 else ""
        self._comment(f"  {'✗' if result.failed else '⎿'} {name}{first}", more(result.output))

    def _comment(self, text: str, tail: str = "") -> None:
        """Write a line that is not the model's own words, after them."""
        self.end_passage()
        self._has_commented = True
        self._line(text, tail)

    def _note(self, text: str) -> None:
        self._has_shown = True
        line = Passage(self._err, style=self._style(DIM))
        line.write(" ".join(safe(f"note: {text}").split("\n")))
        line.end()

    def _line(self, text: str, tail: str = "", *, style: str = DIM) -> None:
        self._has_shown = True
        line = Passage(self._err, style=self._style(style))
        line.write(cut(text, width_of(self._err) - len(tail)) + tail)
        line.end()

    def _style(self, style: str) -> str:
        return style if self._is_styled else ""


class Events:
    """Every event as a line of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def draw(self, event: ChatEvent) -> None:
        match event:
            case Thinking(text):
                self._put("thinking", text=text)
            case Text(text):
                self._put("text", text=text)
            case ToolCall():
                self._put("tool_call", id=event.id, name=event.name, arguments=arguments_of(event))
            case ToolResult():
                self._put("tool_result", id=event.id, name=event.name, output=event.output, failed=event.failed)
            case Usage():
                counted = {"prompt_tokens": event.prompt_tokens, "completion_tokens": event.completion_tokens}
                self._put("usage", **counted, seconds=round(event.seconds, 3), tokens_per_second=rate(event))
            case Notice(text):
                self._put("notice", text=text)

    def quote(self, prompt: str) -> None:
        del prompt

    def note(self, text: str) -> None:
        terminal.note(text)

    def end_passage(self) -> None:
        pass

    def fail(self, error: PiError) -> None:
        self._put("error", message=error.message, hint=error.hint, exit_code=error.exit_code)

    def show_error(self, error: PiError) -> None:
        self.fail(error)

    def _put(self, kind: str, **what: Any) -> None:
        # In ASCII, so that nothing that a model says can steer a terminal or cannot be encoded.
        self._out.write(json.dumps({"type": kind, **what}) + "\n")
        self._out.flush()


class Passage:
    """Text on one stream, without blank lines before and after it, closed by one end of line.

    On a terminal it is made safe; what goes to a file or a pipe is data, and stays as it is.
    """

    def __init__(self, stream: TextIO, *, style: str = "") -> None:
        self._stream = stream
        self._style = (style, PLAIN if style else "")
        self._sanitizer = Sanitizer(colour=False) if stream.isatty() else None
        self._has_begun = False
        self._blank = ""

    def write(self, text: str) -> None:
        self._write(self._sanitizer.feed(text) if self._sanitizer else text)

    def end(self) -> None:
        if self._sanitizer:
            self._write(self._sanitizer.end())
        if self._has_begun:
            self.put(self._stream, "\n")

    def _write(self, text: str) -> None:
        text = self._blank + text if self._has_begun else text.lstrip("\n")
        shown = text.rstrip("\n")
        self._blank = text[len(shown) :]
        if shown:
            self._has_begun = True
            self.put(self._stream, self._style[0] + shown + self._style[1])

    @staticmethod
    def put(stream: TextIO, text: str) -> None:
        """Write at once, with question marks for what the stream cannot encode."""
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()


def is_styled(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether a stream may get anything but text. (Dim and bold are no colours, which NO_COLOR is about.)"""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


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


def arguments_of(call: ToolCall) -> Any:
    """Return the arguments of a call as data; broken ones as the model wrote them."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments


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
    speed = rate(usage)
    return tokens if speed is None else f"{tokens} · {speed:.0f} tok/s"


def rate(usage: Usage) -> float | None:
    """Return tokens a second."""
    if not usage.completion_tokens or usage.seconds <= 0:
        return None
    return round(usage.completion_tokens / usage.seconds, 1)


def cut(text: str, width: int) -> str:
    """Fit foreign text into one line."""
    line = " ".join(safe(text).split("\n"))
    return line if len(line) < width else f"{line[: width - 2]}…"

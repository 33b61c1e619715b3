"""A conversation on the screen: the answer on stdout; reasoning, tool calls and everything else dim on stderr."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from pi_cli.chat.events import ChatEvent, Notice, Text, Thinking, ToolCall, ToolResult, Usage
from pi_cli.errors import PiError
from pi_cli.safe import Sanitizer, safe
from pi_cli.view import terminal, waiting

if TYPE_CHECKING:
    from pi_cli.view.answer import Rendered

DIM, BOLD, PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"
PIPE_WIDTH = 200  # columns of a line about a tool call if stderr is not a terminal


class Screen(Protocol):
    """The output of a conversation."""

    def draw(self, event: ChatEvent) -> None:
        """Show an event of the conversation."""

    def quote(self, prompt: str) -> None:
        """Show a prompt that the user did not just type on this screen."""

    def note(self, text: str) -> None:
        """Show a note that is not part of the conversation."""

    def end_passage(self) -> None:
        """End the current passage, whether or not it is complete."""

    def fail(self, error: PiError) -> None:
        """Report an error that ends the command; `commands.main` prints it."""

    def show_error(self, error: PiError) -> None:
        """Show an error after which the conversation continues."""


@contextmanager
def showing(
    out: TextIO, err: TextIO, *, as_json: bool = False, environ: Mapping[str, str] = os.environ
) -> Iterator[Screen]:
    """Show a conversation while the block runs; afterwards the cursor is at the start of a line on both streams."""
    if as_json:
        yield JsonEvents(out)
        return
    transcript = Transcript(out, err, environ)
    try:
        yield transcript
    finally:
        transcript.end_passage()


class Transcript:
    """Shows reasoning and answers, which arrive in pieces, as passages; every other event is one line."""

    def __init__(self, out: TextIO, err: TextIO, environ: Mapping[str, str]) -> None:
        self._out = out
        self._err = err
        self._environ = environ
        self._is_styled = is_styled(err, environ)
        self._is_one_screen = out.isatty() and err.isatty()
        self._passage: Passage | Rendered | None = None
        self._is_answering = False
        self._has_shown = False
        self._has_comment = False  # before the next answer
        self._called_tools: list[str] = []  # of this turn
        self._result_count = 0

    def draw(self, event: ChatEvent) -> None:
        match event:
            case Thinking(text):
                self._add_text(text, is_answer=False)
            case Text(text):
                self._add_text(text, is_answer=True)
            case ToolCall():
                self._show_call(event)
            case ToolResult():
                self._show_result(event)
            case Notice(text):
                self.note(text)
            case Usage():
                if event.completion_tokens is not None:
                    self._print_comment(usage_summary(event))
                self._has_comment = False

    def quote(self, prompt: str) -> None:
        self.end_passage()
        if self._has_shown and self._is_one_screen:
            Passage.put(self._err, "\n")
        self._print_line(f"> {' '.join(prompt.split())}", style=BOLD)

    def note(self, text: str) -> None:
        """Print a line; a passage that is being written continues after it."""
        if self._passage and not isinstance(self._passage, Passage):
            with self._passage.aside():
                self._print_note(text)
        elif self._passage and self._is_answering and not self._is_one_screen:
            self._print_note(text)
        else:
            self.end_passage()
            self._has_comment = True
            self._print_note(text)

    def fail(self, error: PiError) -> None:
        del error
        self.end_passage()

    def show_error(self, error: PiError) -> None:
        self.end_passage()
        self._has_comment = False
        terminal.show_error(error)

    def end_passage(self) -> None:
        if self._passage:
            self._passage.end()
            self._passage = None

    def _add_text(self, text: str, *, is_answer: bool) -> None:
        if self._passage is None or self._is_answering != is_answer:
            self.end_passage()
            if not text.strip("\n"):
                return  # models start and end with empty lines
            self._is_answering = is_answer
            self._passage = self._start_answer() if is_answer else Passage(self._err, style=self._style(DIM))
        self._has_comment |= not is_answer
        self._has_shown = True
        self._passage.write(text)

    def _start_answer(self) -> "Passage | Rendered":
        """Start an answer, separated from the comments before it."""
        if self._is_one_screen and self._has_comment:
            Passage.put(self._err, "\n")
        if self._out.isatty():
            from pi_cli.view import answer

            if answer.is_renderable(self._out, self._environ):
                return answer.Rendered(self._out)
        return Passage(self._out)

    def _show_call(self, call: ToolCall) -> None:
        if self._result_count:
            self._called_tools, self._result_count = [], 0
        self._called_tools.append(call.name)
        self._print_comment(f"● {call.name}({arguments_summary(call.arguments)})")

    def _show_result(self, result: ToolResult) -> None:
        """Show the first line of a tool result, with the tool's name if the turn called several tools."""
        self._result_count += 1
        first, _, _ = result.output.partition("\n")
        name = f"{result.name}: " if len(set(self._called_tools)) > 1 else ""
        self._print_comment(f"  {'✗' if result.failed else '⎿'} {name}{first}", more_lines(result.output))

    def _print_comment(self, text: str, tail: str = "") -> None:
        """End the passage and print a line that is not model output."""
        self.end_passage()
        self._has_comment = True
        self._print_line(text, tail)

    def _print_note(self, text: str) -> None:
        self._has_shown = True
        line = Passage(self._err, style=self._style(DIM))
        line.write(" ".join(safe(f"note: {text}").split("\n")))
        line.end()

    def _print_line(self, text: str, tail: str = "", *, style: str = DIM) -> None:
        self._has_shown = True
        line = Passage(self._err, style=self._style(style))
        line.write(truncated(text, width_of(self._err) - len(tail)) + tail)
        line.end()

    def _style(self, style: str) -> str:
        return style if self._is_styled else ""


class JsonEvents:
    """Prints every event as a line of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def draw(self, event: ChatEvent) -> None:
        match event:
            case Thinking(text):
                self._write_event("thinking", text=text)
            case Text(text):
                self._write_event("text", text=text)
            case ToolCall():
                self._write_event("tool_call", id=event.id, name=event.name, arguments=arguments_of(event))
            case ToolResult():
                self._write_event("tool_result", id=event.id, name=event.name, output=event.output, failed=event.failed)
            case Usage():
                counts = {"prompt_tokens": event.prompt_tokens, "completion_tokens": event.completion_tokens}
                self._write_event("usage", **counts, seconds=round(event.seconds, 3), tokens_per_second=rate(event))
            case Notice(text):
                self._write_event("notice", text=text)

    def quote(self, prompt: str) -> None:
        del prompt

    def note(self, text: str) -> None:
        terminal.note(text)

    def end_passage(self) -> None:
        pass

    def fail(self, error: PiError) -> None:
        self._write_event("error", message=error.message, hint=error.hint, exit_code=error.exit_code)

    def show_error(self, error: PiError) -> None:
        self.fail(error)

    def _write_event(self, kind: str, **fields: Any) -> None:
        waiting.clear()
        # In ASCII, so that model output cannot steer a terminal, and every encoding can represent it.
        self._out.write(json.dumps({"type": kind, **fields}) + "\n")
        self._out.flush()


class Passage:
    """Text on one stream, without blank lines before and after it, and with one newline at its end.

    On a terminal it is made safe; in a file or a pipe it is data, and stays unchanged.
    """

    def __init__(self, stream: TextIO, *, style: str = "") -> None:
        self._stream = stream
        self._style = (style, PLAIN if style else "")
        self._sanitizer = Sanitizer(colour=False) if stream.isatty() else None
        self._has_text = False
        self._blank_lines = ""

    def write(self, text: str) -> None:
        self._write(self._sanitizer.feed(text) if self._sanitizer else text)

    def end(self) -> None:
        if self._sanitizer:
            self._write(self._sanitizer.end())
        if self._has_text:
            self.put(self._stream, "\n")

    def _write(self, text: str) -> None:
        text = self._blank_lines + text if self._has_text else text.lstrip("\n")
        visible = text.rstrip("\n")
        self._blank_lines = text[len(visible) :]
        if visible:
            self._has_text = True
            self.put(self._stream, self._style[0] + visible + self._style[1])

    @staticmethod
    def put(stream: TextIO, text: str) -> None:
        """Write and flush, with question marks for characters that the stream cannot encode."""
        encoding = stream.encoding or "utf-8"
        waiting.wrote(text)
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()


def is_styled(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream may get styles. (NO_COLOR is about colours; dim and bold are not colours.)"""
    return stream.isatty() and environ.get("TERM", "dumb") != "dumb"


def width_of(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or PIPE_WIDTH
    except OSError:  # not a terminal, or not a file
        return PIPE_WIDTH


def arguments_summary(arguments: str) -> str:
    """Format the arguments of a call like keyword arguments.

    >>> arguments_summary('{"path": "/tmp", "ignore": ["*.pyc"]}')
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
    """Return the arguments of a call as data, or as the text that the model wrote if it is not JSON."""
    try:
        return json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments


def more_lines(output: str) -> str:
    """Return how many lines of a result follow the first one.

    >>> more_lines("README.md\\nsrc/\\ntests/")
    ' (+2 lines)'
    """
    count = len(output.splitlines()) - 1
    return f" (+{count} line{'s' if count > 1 else ''})" if count > 0 else ""


def usage_summary(usage: Usage) -> str:
    """Format the token count and the speed of an answer.

    >>> usage_summary(Usage(prompt_tokens=137, completion_tokens=12, seconds=0.25))
    '12 tokens · 48 tok/s'
    """
    tokens = f"{usage.completion_tokens} token{'s' if usage.completion_tokens != 1 else ''}"
    speed = rate(usage)
    return tokens if speed is None else f"{tokens} · {speed:.0f} tok/s"


def rate(usage: Usage) -> float | None:
    """Return tokens per second; None if the tokens or the time are unknown."""
    if not usage.completion_tokens or usage.seconds <= 0:
        return None
    return round(usage.completion_tokens / usage.seconds, 1)


def truncated(text: str, width: int) -> str:
    """Make foreign text safe and truncate it to one line."""
    line = " ".join(safe(text).split("\n"))
    return line if len(line) < width else f"{line[: width - 2]}…"

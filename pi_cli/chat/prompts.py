"""Where the prompts of a chat come from: a line editor on the terminal, or the lines of a file or a pipe."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pi_cli.chat.events import ChatReport, Notice

if TYPE_CHECKING:  # takes 0.15 s to import
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

KEY_HELP = "Enter sends, Alt+Enter starts a new line, Ctrl+C stops an answer, Ctrl+D quits"
# As in other chats. Only a prompt that is nothing else counts, and only if it is typed: a file may have such a line.
QUIT_WORDS = {"/bye", "/exit", "/quit", "exit", "quit"}
HELP_WORDS = {"/help", "/?"}
WORD_HELP = f"{KEY_HELP}; `/bye`, `exit` and `quit` quit too, `/help` shows this"
READ_SIZE = 1 << 16


class PromptSource(Protocol):
    """A source of prompts. `is_typed`: a user is typing them, and may want to continue after Ctrl+C."""

    is_typed: bool

    async def next(self) -> str | None:
        """Return the next prompt that is not blank, or None after the last one."""


class TypedPrompts:
    """Prompts typed on the terminal. The editor draws on stderr, so that stdout has only answers.

    Ctrl+C discards the text being typed. If waiting for a prompt is cancelled, the text typed so far is offered again
    the next time.
    """

    is_typed = True

    def __init__(self, report: ChatReport, *, history: Path | None) -> None:
        self._report = report
        self._unsent = ""
        self._session = self._new_session(history)

    async def next(self) -> str | None:
        text = ""
        while not text.strip():
            try:
                unsent, self._unsent = self._unsent, ""
                text = await self._session.prompt_async(default=unsent, handle_sigint=False)
                if text.strip().lower() in QUIT_WORDS:
                    return None
                if text.strip().lower() in HELP_WORDS:
                    self._report(Notice(WORD_HELP))
                    text = ""
            except EOFError:
                return None
            except BaseException:
                self._unsent = self._session.default_buffer.text
                raise
        return text.strip()

    def _new_session(self, history: Path | None) -> "PromptSession[str]":
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.output import create_output

        # The cursor position is not needed here, and querying it confuses slow terminals.
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
        return PromptSession(
            "\n> ",
            prompt_continuation="  ",
            multiline=True,
            history=FileHistory(history) if history else InMemoryHistory(),
            key_bindings=self._key_bindings(),
            output=create_output(stdout=sys.stderr),
            enable_suspend=True,
            reserve_space_for_menu=0,
        )

    def _key_bindings(self) -> "KeyBindings":
        from prompt_toolkit.application import run_in_terminal
        from prompt_toolkit.key_binding import KeyBindings

        bindings = KeyBindings()

        @bindings.add("enter")
        def send(event: "KeyPressEvent") -> None:
            event.current_buffer.validate_and_handle()

        @bindings.add("escape", "enter")
        def start_line(event: "KeyPressEvent") -> None:
            event.current_buffer.newline(copy_margin=False)

        @bindings.add("c-c")
        def discard(event: "KeyPressEvent") -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                run_in_terminal(lambda: self._report(Notice("press Ctrl+D to quit")))

        return bindings


class PipedPrompts:
    """Prompts from a file or a pipe, one per line."""

    is_typed = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        # A thread, because an event loop cannot wait for every kind of file. It is not joined if pi exits early.
        threading.Thread(target=self._read, daemon=True).start()

    async def next(self) -> str | None:
        while (line := await self._lines.get()) is not None:
            if line.strip():
                return line.strip()
        self._lines.put_nowait(None)  # every later call returns None too
        return None

    def _read(self) -> None:
        partial = b""
        while chunk := self._read_chunk():
            *lines, partial = (partial + chunk).split(b"\n")
            for line in lines:
                self._deliver(line.decode("utf-8", "replace"))
        self._deliver(partial.decode("utf-8", "replace"))
        self._deliver(None)

    def _read_chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, READ_SIZE)
        except OSError:  # the descriptor, or its terminal, was closed
            return b""

    def _deliver(self, line: str | None) -> None:
        with suppress(RuntimeError):  # the event loop was closed: pi is exiting
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)

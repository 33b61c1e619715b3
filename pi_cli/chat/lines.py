"""What the user says in a chat, one prompt after the other: typed in a line editor, or lines of a file or a pipe."""

import asyncio
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pi_cli.chat.events import Notice, Report

if TYPE_CHECKING:  # it takes 0.15 s to import
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

KEYS = "Enter sends, Alt+Enter begins a new line, Ctrl+C stops an answer, Ctrl+D leaves"
CHUNK = 1 << 16


class Lines(Protocol):
    """Where prompts come from. `is_typed` tells whether somebody is there, who may go on after Ctrl+C."""

    is_typed: bool

    async def next(self) -> str | None:
        """Return the next prompt that is not blank, None after the last."""


class TypedLines:
    """Prompts typed on the terminal, which is stderr, so that stdout holds answers only.

    Ctrl+C takes back what is being typed. What is typed when the wait for it is cancelled stands there again the next
    time.
    """

    is_typed = True

    def __init__(self, report: Report, *, history: Path | None) -> None:
        self._report = report
        self._unsent = ""
        self._session = self._opened(history)

    async def next(self) -> str | None:
        text = ""
        while not text.strip():
            try:
                unsent, self._unsent = self._unsent, ""
                text = await self._session.prompt_async(default=unsent, handle_sigint=False)
            except EOFError:
                return None
            except BaseException:
                self._unsent = self._session.default_buffer.text
                raise
        return text.strip()

    def _opened(self, history: Path | None) -> "PromptSession[str]":
        from prompt_toolkit import PromptSession
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.output import create_output

        # Nothing here needs to know where the cursor is, and asking for it confuses slow terminals.
        os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
        return PromptSession(
            "\n> ",
            prompt_continuation="  ",
            multiline=True,
            history=FileHistory(history) if history else InMemoryHistory(),
            key_bindings=self._keys(),
            output=create_output(stdout=sys.stderr),
            enable_suspend=True,
            reserve_space_for_menu=0,
        )

    def _keys(self) -> "KeyBindings":
        from prompt_toolkit.application import run_in_terminal
        from prompt_toolkit.key_binding import KeyBindings

        keys = KeyBindings()

        @keys.add("enter")
        def send(event: "KeyPressEvent") -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def break_line(event: "KeyPressEvent") -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add("c-c")
        def take_back(event: "KeyPressEvent") -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                run_in_terminal(lambda: self._report(Notice("Ctrl+D leaves")))

        return keys


class GivenLines:
    """Prompts from what is not a terminal, a line each."""

    is_typed = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        # A thread, since an event loop cannot wait for every kind of file; nobody waits for it when we leave early.
        threading.Thread(target=self._read, daemon=True).start()

    async def next(self) -> str | None:
        while (line := await self._waiting.get()) is not None:
            if line.strip():
                return line.strip()
        self._waiting.put_nowait(None)  # it stays at its end
        return None

    def _read(self) -> None:
        begun = b""
        while chunk := self._read_chunk():
            *lines, begun = (begun + chunk).split(b"\n")
            for line in lines:
                self._hand_over(line.decode("utf-8", "replace"))
        self._hand_over(begun.decode("utf-8", "replace"))
        self._hand_over(None)

    def _read_chunk(self) -> bytes:
        try:
            return os.read(self._descriptor, CHUNK)
        except OSError:  # it is closed, or its terminal is
            return b""

    def _hand_over(self, line: str | None) -> None:
        with suppress(RuntimeError):  # we have left
            self._loop.call_soon_threadsafe(self._waiting.put_nowait, line)

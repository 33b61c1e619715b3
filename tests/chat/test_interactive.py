"""A chat: errors, Ctrl+C and lost connections do not end it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pi_cli import interrupts
from pi_cli.chat import interactive
from pi_cli.chat.events import ChatEvent, Notice
from pi_cli.chat.prompts import PipedPrompts
from pi_cli.errors import PiError, PodUnreachable


@dataclass
class FixedPrompts:
    """A fixed list of prompts; in place of the prompt `lost_at`, the connection is lost."""

    prompts: list[str]
    is_typed: bool = True
    lost_at: str = ""

    async def next(self) -> str | None:
        prompt = self.prompts.pop(0) if self.prompts else None
        if prompt and prompt == self.lost_at:
            raise PodUnreachable("dc1", "the connection was lost")
        return prompt


@dataclass
class Chat:
    """A chat, and everything that happens in it; `ask` runs the action that the test has set for a prompt."""

    source: FixedPrompts
    actions: dict[str, Callable[[], Any]] = field(default_factory=dict)
    connections: int = 0
    asked: list[str] = field(default_factory=list)
    errors: list[PiError] = field(default_factory=list)
    events: list[ChatEvent] = field(default_factory=list)
    failing: int = 0
    """Which attempt to connect fails, counted from 1."""

    def run(self, *first: str) -> int:
        return interrupts.run(
            interactive.chat(
                self.source,
                first=first,
                connect=self.connect,
                ask=self.ask,
                report=self.events.append,
                show_error=self.errors.append,
            )
        )

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        self.connections += 1
        if self.connections == self.failing:
            raise PodUnreachable("dc1", "it is off")
        yield cast("Any", None)

    async def ask(self, client: Any, prompt: str) -> None:
        del client
        self.asked.append(prompt)
        if action := self.actions.get(prompt):
            await action()


def test_the_given_prompts_are_asked_first_then_the_source_in_order() -> None:
    chat = Chat(FixedPrompts(["two", "three"]))

    assert chat.run("one") == 0
    assert (chat.asked, chat.connections) == (["one", "two", "three"], 1)


def failing(error: PiError) -> Callable[[], Any]:
    async def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("is_typed", [True, False])
def test_an_error_is_shown_and_the_chat_continues(is_typed: bool) -> None:
    chat = Chat(FixedPrompts(["one", "two"], is_typed), {"one": failing(PiError("it is dead"))})

    assert chat.run() == 1
    assert (chat.asked, [str(error) for error in chat.errors]) == (["one", "two"], ["it is dead"])


async def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)


def test_ctrl_c_stops_only_the_answer() -> None:
    before = signal.getsignal(signal.SIGINT)
    chat = Chat(FixedPrompts(["one", "two"]), {"one": interrupted})

    assert chat.run() == 0
    assert chat.asked == ["one", "two"]
    assert chat.events == [Notice("stopped")]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_ends_a_chat_whose_prompts_come_from_a_pipe() -> None:
    chat = Chat(FixedPrompts(["one", "two"], is_typed=False), {"one": interrupted})

    with pytest.raises(KeyboardInterrupt):
        chat.run()
    assert chat.asked == ["one"]


@pytest.mark.parametrize("is_background", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_still_end_the_command(
    number: signal.Signals, is_background: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the shell of a script has SIGINT ignored."""

    async def ended() -> None:
        os.kill(os.getpid(), number)
        await asyncio.sleep(60)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(interrupts, "received", [])
    if is_background:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.clean_up()
    chat = Chat(FixedPrompts(["one", "two"]), {"one": ended})
    try:
        with pytest.raises(KeyboardInterrupt):
            chat.run()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert chat.asked == ["one"]


def test_pi_reconnects_for_the_next_prompt() -> None:
    chat = Chat(FixedPrompts(["one", "lost", "two"], lost_at="lost"))

    assert chat.run() == 1
    assert (chat.asked, chat.connections) == (["one", "two"], 2)
    assert [error.exit_code for error in chat.errors] == [3]


def test_a_chat_survives_a_failed_reconnect() -> None:
    chat = Chat(FixedPrompts(["one", "lost", "two", "three"], lost_at="lost"), failing=2)

    assert chat.run() == 2
    assert (chat.asked, chat.connections) == (["one", "three"], 3)


def test_a_failed_first_connection_ends_the_chat() -> None:
    with pytest.raises(PodUnreachable):
        Chat(FixedPrompts(["one"]), failing=1).run()


def prompts_of(*pieces: bytes) -> list[str]:
    """Return the prompts from a pipe into which these pieces are written."""

    async def read() -> list[str]:
        ours, theirs = os.pipe()
        with os.fdopen(ours, "rb"), os.fdopen(theirs, "wb", buffering=0) as pipe:
            source = PipedPrompts(ours)
            for piece in pieces:
                pipe.write(piece)
            pipe.close()
            prompts = []
            while prompt := await source.next():
                prompts.append(prompt)
            assert await source.next() is None
            return prompts

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("pieces", "prompts"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\n\n  \ntw", b"o"], ["one", "two"]),
        ([b"caf\xe9\r\n"], ["caf\ufffd"]),
        ([], []),
    ],
)
def test_each_line_of_a_pipe_is_a_prompt(pieces: Sequence[bytes], prompts: list[str]) -> None:
    assert prompts_of(*pieces) == prompts


def test_a_closed_stdin_has_no_prompts() -> None:
    async def read() -> str | None:
        return await PipedPrompts(-1).next()

    assert asyncio.run(read()) is None

"""A chat: errors, Ctrl+C and lost connections do not end it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from pi_cli.chat import interactive
from pi_cli.chat.events import ChatEvent, Notice
from pi_cli.chat.lines import GivenLines
from pi_cli.errors import PiError, PodUnreachable


@dataclass
class Said:
    """Prompts that are there already; `lost_at` is the one instead of which the connection goes."""

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
    """Everything that happens in a chat; `ask` does what the test wants for a prompt."""

    lines: Said
    does: dict[str, Callable[[], Any]] = field(default_factory=dict)
    reached: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    errors: list[PiError] = field(default_factory=list)
    events: list[ChatEvent] = field(default_factory=list)
    refusing: int = 0
    """Which attempt to connect fails, counted from 1."""

    def run(self, *first: str) -> int:
        return asyncio.run(
            interactive.chat(
                self.lines,
                first=first,
                reach=self.reach,
                ask=self.ask,
                report=self.events.append,
                complain=self.errors.append,
            )
        )

    @asynccontextmanager
    async def reach(self) -> AsyncIterator[Any]:
        self.reached.append("reached")
        if len(self.reached) == self.refusing:
            raise PodUnreachable("dc1", "it is off")
        yield cast("Any", None)

    async def ask(self, client: Any, prompt: str) -> None:
        del client
        self.asked.append(prompt)
        if does := self.does.get(prompt):
            await does()


def test_all_prompts_are_asked_in_their_order_the_given_ones_first() -> None:
    chat = Chat(Said(["two", "three"]))

    assert chat.run("one") == 0
    assert (chat.asked, chat.reached) == (["one", "two", "three"], ["reached"])


def failing(error: PiError) -> Callable[[], Any]:
    async def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize("is_typed", [True, False])
def test_an_error_is_told_and_the_chat_goes_on(is_typed: bool) -> None:
    chat = Chat(Said(["one", "two"], is_typed), {"one": failing(PiError("it is dead"))})

    assert chat.run() == 1
    assert (chat.asked, [str(error) for error in chat.errors]) == (["one", "two"], ["it is dead"])


async def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)


def test_ctrl_c_stops_the_answer_and_nothing_else() -> None:
    before = signal.getsignal(signal.SIGINT)
    chat = Chat(Said(["one", "two"]), {"one": interrupted})

    assert chat.run() == 0
    assert chat.asked == ["one", "two"]
    assert chat.events == [Notice("stopped")]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_ends_a_chat_that_nobody_types() -> None:
    chat = Chat(Said(["one", "two"], is_typed=False), {"one": interrupted})

    with pytest.raises(KeyboardInterrupt):
        chat.run()
    assert chat.asked == ["one"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_the_command_still_does(number: signal.Signals) -> None:
    """As `pi` has it: the handler of both signals ends the command as Ctrl+C does."""

    async def ended() -> None:
        os.kill(os.getpid(), number)
        await asyncio.sleep(60)

    before = signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    chat = Chat(Said(["one", "two"]), {"one": ended})
    try:
        with pytest.raises(KeyboardInterrupt):
            chat.run()
    finally:
        signal.signal(number, before)
    assert chat.asked == ["one"]


def test_a_lost_connection_is_made_anew_for_the_next_prompt() -> None:
    chat = Chat(Said(["one", "lost", "two"], lost_at="lost"))

    assert chat.run() == 1
    assert (chat.asked, chat.reached) == (["one", "two"], ["reached"] * 2)
    assert [error.exit_code for error in chat.errors] == [3]


def test_a_pod_that_stays_away_does_not_end_the_chat() -> None:
    chat = Chat(Said(["one", "lost", "two", "three"], lost_at="lost"), refusing=2)

    assert chat.run() == 2
    assert (chat.asked, chat.reached) == (["one", "three"], ["reached"] * 3)


def test_a_pod_that_was_never_reached_does() -> None:
    with pytest.raises(PodUnreachable):
        Chat(Said(["one"]), refusing=1).run()


def lines_of(*pieces: bytes) -> list[str]:
    """Read prompts from a pipe into which these pieces are written."""

    async def read() -> list[str]:
        ours, theirs = os.pipe()
        with os.fdopen(ours, "rb"), os.fdopen(theirs, "wb", buffering=0) as pipe:
            lines = GivenLines(ours)
            for piece in pieces:
                pipe.write(piece)
            pipe.close()
            found = []
            while line := await lines.next():
                found.append(line)
            assert await lines.next() is None
            return found

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
def test_lines_of_a_pipe_are_prompts(pieces: Sequence[bytes], prompts: list[str]) -> None:
    assert lines_of(*pieces) == prompts


def test_a_closed_stdin_has_no_prompts() -> None:
    async def read() -> str | None:
        return await GivenLines(-1).next()

    assert asyncio.run(read()) is None

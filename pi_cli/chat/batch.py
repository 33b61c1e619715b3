"""Ask a model many questions at once; a lost connection, an error and a restart of pi cost no answer twice."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pi_cli.chat import completions
from pi_cli.chat.batch_items import Item
from pi_cli.chat.client import ConnectionLost, RequestFailed, ServedModel, TooLong
from pi_cli.chat.turn import Request, Turn
from pi_cli.errors import PiError, PodUnreachable

if TYPE_CHECKING:
    from pi_cli.chat.client import Client

MAX_TRIES = 2  # of a request that the server failed at
MAX_RECONNECTS = 4  # in a row, without an answer in between
FIRST_DELAY = 1.0  # seconds before the second attempt to reconnect; doubled each time
MIN_FAILURES = 8  # in a row, after which the rest is not asked


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: a text, or an error; `finish` is the server's reason for its end."""

    number: int
    id: str | None
    text: str = ""
    thinking: str = ""
    finish: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float = 0.0
    error: str | None = None


Connect = Callable[[], AbstractAsyncContextManager["Client"]]


@dataclass(slots=True)
class Batch:
    """The requests that are left, and `take`, which gets each answer when it is there, in any order."""

    model: ServedModel
    items: Sequence[Item]
    take: Callable[[Answer], None]
    parallel: int
    _left: deque[Item] = field(default_factory=deque)
    _tries: dict[int, int] = field(default_factory=dict)
    _answered: int = 0
    _failures_in_a_row: int = 0
    _lost: PiError | None = None

    async def run(self, connect: Connect) -> None:
        """Ask everything. Raises the error that no further request would survive.

        After a lost connection pi reconnects, as long as there are answers in between.
        """
        self._left = deque(self.items)
        delay, reconnects = 0.0, 0
        while self._left:
            before, self._lost = self._answered, None
            try:
                async with connect() as client:
                    await self._work(client)
            except PodUnreachable as error:
                if not self._answered:
                    raise
                self._lost = error
            if self._lost is None:
                continue
            reconnects = 0 if self._answered > before else reconnects + 1
            if reconnects > MAX_RECONNECTS:
                raise self._lost
            delay = FIRST_DELAY if self._answered > before else max(delay * 2, FIRST_DELAY)
            await asyncio.sleep(delay)

    async def _work(self, client: "Client") -> None:
        workers = [asyncio.create_task(self._ask_next(client)) for _ in range(min(self.parallel, len(self._left)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _ask_next(self, client: "Client") -> None:
        while self._left and self._lost is None:
            item = self._left.popleft()
            try:
                answer = await self._ask(client, item)
            except BaseException:
                self._left.appendleft(item)
                raise
            if answer is None:
                self._left.append(item)
                continue
            self._answered += 1
            self.take(answer)

    async def _ask(self, client: "Client", item: Item) -> Answer | None:
        """Return the answer to one request; None if it has to be asked again."""
        turn = Turn(lambda _: None)
        request = Request(self.model, item.system or "", item.messages, {}, False, item.sampling)
        began = time.monotonic()
        try:
            await completions.take_turn(client, request, turn)
        except ConnectionLost as error:
            self._lost = error
            return None
        except TooLong as error:
            return Answer(item.number, item.id, error=error.message)
        except RequestFailed as error:
            return self._failed(item, error)
        self._failures_in_a_row = 0
        return Answer(
            item.number,
            item.id,
            turn.text.strip("\n"),  # models begin and end with empty lines
            turn.thinking.strip("\n"),
            turn.finish,
            turn.prompt_tokens,
            turn.completion_tokens,
            time.monotonic() - began,
        )

    def _failed(self, item: Item, error: RequestFailed) -> Answer | None:
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= max(MIN_FAILURES, 2 * self.parallel):
            raise error
        tries = self._tries[item.number] = self._tries.get(item.number, 0) + 1
        if error.may_pass and tries < MAX_TRIES:
            return None
        return Answer(item.number, item.id, error=error.message)

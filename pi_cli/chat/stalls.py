"""Ends the wait for an answer when the pod says that the model is stalled."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pi_cli.chat.client import ServedModel
from pi_cli.errors import ModelStalled

LOOK_INTERVAL = 20.0  # seconds without data; the agent calls a model stalled after 15


@asynccontextmanager
async def ended_if_stalled(model: ServedModel, *, interval: float = LOOK_INTERVAL) -> AsyncIterator[Callable[[], None]]:
    """Ask the pod each time that no data has arrived for `interval` seconds while the block runs.

    Gives a function to call when data arrives. Raises `ModelStalled` if the model takes requests and answers none.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    last = loop.time()
    is_stalled = False

    def data_arrived() -> None:
        nonlocal last
        last = loop.time()

    async def look() -> None:
        nonlocal is_stalled
        looked_at = last
        while model.is_stalled and not is_stalled:
            while (left := max(last, looked_at) + interval - loop.time()) > 0:  # noqa: ASYNC110 - one timer for all data
                await asyncio.sleep(left)
            looked_at = loop.time()
            is_stalled = await model.is_stalled() and last < looked_at
        if is_stalled:
            limit.reschedule(loop.time())

    looking = asyncio.create_task(look())
    try:
        async with limit:
            yield data_arrived
    except TimeoutError as error:
        if not is_stalled:
            raise
        hint = "see its log with `{logs}`, and start it again: its engine hangs"
        raise ModelStalled(model.name, hint=model.hint(hint)) from error
    finally:
        looking.cancel()
        await asyncio.wait([looking])

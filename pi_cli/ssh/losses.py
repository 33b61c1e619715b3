"""A block that ends when the connection it works on is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress

from pi_cli.errors import PiError, PodUnreachable


@asynccontextmanager
async def ended_by(
    loss: Coroutine[object, object, object], pod: str, is_lost: Callable[[], bool]
) -> AsyncIterator[None]:
    """End the block when `loss` returns; raise `PodUnreachable` for whatever error the block raises then.

    This interrupts the block: what it waits for may never come.
    """
    losing = asyncio.ensure_future(loss)
    try:
        async with asyncio.timeout(None) as timeout:

            def interrupt(_: object) -> None:
                with suppress(RuntimeError):  # the block has ended already
                    timeout.reschedule(0)

            losing.add_done_callback(interrupt)
            yield
    except (PiError, TimeoutError) as error:
        if is_lost():
            raise PodUnreachable(pod, "the connection was lost") from error
        raise
    finally:
        losing.cancel()
        await asyncio.wait([losing])

"""A model over several pods, simulated: the nodes connect to the head, as vLLM's do to `--master-addr`.

As with vLLM, the head waits for its nodes without a word and for ever; a node never notices that its head is gone, and
the head's `/health` never that a node is.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pi_cli.demo import owner
from pi_cli.demo.engine.flags import Settings
from pi_cli.demo.engine.log import LogWriter

PAUSE = 0.1  # seconds between two attempts of a node to connect


def count(settings: Settings) -> int:
    return settings.number("nnodes", 1)


def is_node(settings: Settings) -> bool:
    return settings.has("headless")


@asynccontextmanager
async def met(settings: Settings, worker: LogWriter) -> AsyncIterator[None]:
    """Wait until all parts of the model are connected, and keep them so while the block runs."""
    address, port = settings.text("master-addr", "127.0.0.1"), settings.number("master-port", 29501)
    rank = settings.number("node-rank", 0)
    if count(settings) > 1:
        method = f"distributed_init_method=tcp://{address}:{port} backend=nccl"
        worker.info("parallel_state.py:1717", f"world_size={count(settings)} rank={rank} local_rank=0 {method}")
    if count(settings) == 1:
        yield
    elif rank:
        writer = await _connected(address, port)
        try:
            yield
        finally:
            writer.close()
    else:
        missing, complete = count(settings) - 1, asyncio.Event()

        async def see(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal missing
            missing -= 1
            if missing == 0:
                complete.set()
            with suppress(OSError):
                await reader.read()
            writer.close()

        # vLLM listens on all interfaces; an embedded pod is this machine.
        host = os.environ.get("VLLM_HOST_IP") if owner.MARKER in os.environ else None
        async with await asyncio.start_server(see, host, port):
            await complete.wait()
            yield


async def _connected(address: str, port: int) -> asyncio.StreamWriter:
    while True:
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(PAUSE)
        else:
            return writer

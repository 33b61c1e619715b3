"""Whether a model's public URL can be reached from this machine: providers often close the port.

A request by hand: to load `httpx2` takes as long as all else that `pi list` has to load.
"""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

REACH_TIMEOUT = 1.5  # seconds for a port on a public address; where it is closed packets are often dropped in silence


async def answers_from_here(url: str) -> bool:
    """Tell whether a model at `http://HOST:PORT/v1` says that it is healthy."""
    with suppress(OSError, ValueError):
        where = urlsplit(url)
        async with asyncio.timeout(REACH_TIMEOUT):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\n\r\n".encode())
                _, status, *_ = (await reader.readline()).split()
                return status == b"200"
            finally:
                writer.close()
    return False

"""Check whether a model's public URL can be reached from this machine: providers often close the port.

Without `httpx2`, which takes as long to load as everything else that `pi list` needs.
"""

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

REACH_TIMEOUT = 1.5  # seconds for a port on a public address; firewalls often drop packets to closed ports


async def answers_from_here(url: str) -> bool:
    """Return whether the model at `http://HOST:PORT/v1` reports that it is healthy."""
    with suppress(OSError, ValueError):
        parts = urlsplit(url)
        async with asyncio.timeout(REACH_TIMEOUT):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                _, status, *_ = (await reader.readline()).split()
                return status == b"200"
            finally:
                writer.close()
    return False

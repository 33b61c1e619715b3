"""Ports for embedded pods that share one machine: each pod starts its models in its own block of ports.

Two real pods may both use port 8001; two embedded pods would conflict.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

FIRST_PORT, LAST_PORT, BLOCK_SIZE = 8001, 32000, 50


def address(first_port: int) -> str:
    """Return an address of the loopback for the pod with this block: 127.0.0.2, 127.0.0.3…"""
    number = (first_port - FIRST_PORT) // BLOCK_SIZE + 2
    return f"127.0.{number // 256}.{number % 256}"


@contextmanager
def reserved() -> Iterator[int]:
    """Reserve a block of ports, and yield its first port. A socket on its last port marks it as used."""
    for first in range(FIRST_PORT, LAST_PORT, BLOCK_SIZE):
        marker = socket.socket()
        try:
            marker.bind(("127.0.0.1", first + BLOCK_SIZE - 1))
            marker.listen(1)
        except OSError:
            marker.close()
            continue
        with marker:
            yield first
        return
    raise OSError("no free block of ports on this machine")

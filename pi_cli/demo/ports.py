"""Ports for pods that share one machine: each gets a block of its own to start models in.

Two real pods may both use port 8001; two embedded ones would fight over it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

FIRST, LAST, BLOCK = 8001, 32000, 50


@contextmanager
def reserved() -> Iterator[int]:
    """Yield the first port of a block that no other embedded pod on this machine has; its last port says so."""
    for first in range(FIRST, LAST, BLOCK):
        sign = socket.socket()
        try:
            sign.bind(("127.0.0.1", first + BLOCK - 1))
            sign.listen(1)
        except OSError:
            sign.close()
            continue
        with sign:
            yield first
        return
    raise OSError("no free block of ports on this machine")

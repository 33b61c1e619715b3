"""Count the bytes that processes have received over the network, according to the kernel.

Xet keeps gigabytes in memory until the next part of a file is complete. On a slow link, it writes nothing for minutes
although the download works, so files alone do not show a stall.
"""

import contextlib
import socket
import struct
from typing import Dict, Iterator, List, Optional, Tuple

from agent import ports
from agent.processes import Process

# From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
REQUEST_ALL, DONE, ERROR = 0x301, 3, 2
INET_DIAG_INFO = 2
BYTES_RECEIVED = 128  # offset in `struct tcp_info`, since Linux 4.1


class Traffic:
    """Adds up the bytes received by sockets, including those that were closed; `total` is in bytes."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: Dict[str, int] = {}

    def look(self, processes: List[Process]) -> int:
        """Update and return the total; it stays unchanged if the kernel does not report the numbers."""
        inodes = ports.socket_inodes(processes)
        counts = {inode: count for inode, count in received() if inode in inodes}
        self.total += sum(max(0, count - self._counts.get(inode, 0)) for inode, count in counts.items())
        self._counts = counts
        return self.total


def received() -> Iterator[Tuple[str, int]]:
    """Yield (inode, bytes received) of every TCP socket; see sock_diag(7)."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, struct.error):
            for message in ask(family):
                count = bytes_received(message)
                if count is not None:
                    yield str(struct.unpack_from("=I", message, 68)[0]), count


def ask(family: int) -> List[bytes]:
    """Return the kernel's message about each TCP socket of a family: a `struct inet_diag_msg` and attributes."""
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0xFFFFFFFF)
    messages: List[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1.0)
        kernel.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, REQUEST_ALL, 1, 0) + request)
        while True:
            answer = kernel.recv(1 << 18)
            while len(answer) >= 16:
                length, kind = struct.unpack_from("=IH", answer)
                if kind in (DONE, ERROR) or length < 16:
                    return messages
                messages.append(answer[16:length])
                answer = answer[(length + 3) & ~3 :]


def bytes_received(message: bytes) -> Optional[int]:
    position = 72
    while position + 4 <= len(message):
        length, kind = struct.unpack_from("=HH", message, position)
        if kind == INET_DIAG_INFO and length >= 4 + BYTES_RECEIVED + 8:
            return int(struct.unpack_from("=Q", message, position + 4 + BYTES_RECEIVED)[0])
        position += max(4, (length + 3) & ~3)
    return None

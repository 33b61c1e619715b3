"""A connection that begins before the modules of a login are loaded, which takes longer than TCP's handshake does.

It leads to the address at which pi has logged in to the pod before. The login decides where to connect: a connection to
elsewhere is closed, and nothing was sent over it.
"""

import errno
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from pi_cli.ssh import early_facts

MOST = 8  # sshd drops connections that have not logged in when there are many (`MaxStartups`)
MAX_AGE = 10.0  # seconds
FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, slots=True)
class HeadStart:
    """A connection that is being opened, or has been."""

    socket: socket.socket
    host: str
    port: int
    begun_at: float

    def leads_to(self, family: int, address: tuple[object, ...]) -> bool:
        """Return whether it leads to an address, as `getaddrinfo` returns it."""
        is_young = time.monotonic() - self.begun_at < MAX_AGE
        return is_young and self.socket.family == family and address[:2] == (self.host, self.port)


_begun: dict[str, HeadStart] = {}


def begin(pod: str) -> None:
    """Begin to connect to a pod, if the login has still to be loaded and the pod's server has an address of numbers.

    A server that pi does not know, or does not log in to straight, is not one of them.
    """
    known = None if "pi_cli.ssh.login" in sys.modules or len(_begun) >= MOST else early_facts.read(pod)
    if known is None or not known.may_be_asked or not known.key or pod in _begun:
        return
    host, _, port = known.address.rpartition("@")[2].rpartition(":")
    for family in FAMILIES:
        with suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            _begun[pod] = HeadStart(sock, host, int(port), time.monotonic())
            sock.connect_ex((host, int(port)))  # what is wrong with it is known when it is used
            return


def take(pod: str) -> HeadStart | None:
    """Return the connection to a pod that was begun, if there is one; it is the caller's now."""
    return _begun.pop(pod, None)


def is_connected(error: OSError) -> bool:
    """Return whether connecting once more has failed since it was done: not all systems say so without an error."""
    return error.errno == errno.EISCONN

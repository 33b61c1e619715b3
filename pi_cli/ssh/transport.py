"""The transport to an SSH server: a TCP socket or a `ProxyCommand`."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import IO

from pi_cli.ssh import head_start
from pi_cli.ssh.head_start import HeadStart
from pi_cli.ssh.ssh_config import Destination

QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
HANG_UP_TIMEOUT = 2.0  # seconds that a `ProxyCommand` has to react to SIGHUP before SIGKILL
MAX_STDERR = 1 << 16  # bytes

Address = tuple[int, tuple[object, ...]]
"""An address family and an address, as `getaddrinfo` returns them."""


class NoBanner(Exception):
    """No SSH banner was received."""


@dataclass(frozen=True, slots=True)
class Transport:
    """An open transport.

    `seconds_left` is the time until the banner is due, `silence` the error message if it never arrives.
    """

    socket: socket.socket
    seconds_left: float
    silence: str
    _proxy_stderr: IO[bytes] | None = None

    def proxy_words(self) -> str | None:
        """Return what a `ProxyCommand` has printed so far on stderr; None without one."""
        if self._proxy_stderr is None:
            return None
        # Not `read`: the position in the file is that of the process, too.
        return os.pread(self._proxy_stderr.fileno(), MAX_STDERR, 0).decode("utf-8", "replace")

    def raise_if_proxy_exited(self, destination: Destination) -> None:
        """Raise `NoBanner` if the connection that was closed without a banner was a `ProxyCommand`."""
        if self._proxy_stderr:
            lines = (self.proxy_words() or "").strip().splitlines()
            raise NoBanner(f"the ProxyCommand of {destination} exited: {lines[-1] if lines else 'it printed no error'}")


@asynccontextmanager
async def opened(destination: Destination, seconds: float, begun: HeadStart | None = None) -> AsyncIterator[Transport]:
    """Open a transport; connecting and the server's banner together may take this many seconds.

    `begun` is a connection that may lead there, and is closed if it does not.

    Raises `NoBanner`, naming the step that failed.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    if command := destination.option("proxycommand"):
        if begun:
            begun.socket.close()
        async with _through_proxy_command(destination, command) as (sock, stderr):
            silence = f"the ProxyCommand of {destination} sent no SSH banner within {seconds:g} s"
            yield Transport(sock, deadline - clock(), silence, stderr)
        return
    with closing(await _connected(destination, deadline, seconds, begun)) as sock:
        silence = f"{destination} accepts connections but sent no SSH banner within {seconds:g} s"
        yield Transport(sock, deadline - clock(), silence)


def acknowledge_at_once(sock: socket.socket) -> None:
    """Have the kernel acknowledge the received data now instead of in 40 ms; this holds only for a moment.

    After the login, sshd has a small packet in flight and holds the next one back until the first is acknowledged
    (Nagle's algorithm): the first command took 52 ms, and takes 9 with this. Only Linux has the option.
    """
    if QUICK_ACK is not None and sock.family in FAMILIES.values():
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)


async def _resolve(destination: Destination, deadline: float, seconds: float) -> list[Address]:
    family = FAMILIES.get(destination.option("addressfamily") or "", socket.AF_UNSPEC)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(deadline):
            infos = await loop.getaddrinfo(destination.host, destination.port, family=family, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise NoBanner(f"there is no host {destination} ({reason})") from error
    except TimeoutError as error:
        raise NoBanner(f"the name of {destination} was not resolved within {seconds:g} s") from error
    return [(family, address) for family, _, _, _, address in infos]


async def _connected(
    destination: Destination, deadline: float, seconds: float, begun: HeadStart | None
) -> socket.socket:
    """Return a socket that is connected: that of the connection which was begun, if it leads there and succeeds."""
    is_used = False
    try:
        addresses = await _resolve(destination, deadline, seconds)
        is_used = begun is not None and await _finishes(begun, destination, addresses, deadline)
    finally:
        if begun and not is_used:
            begun.socket.close()
    return begun.socket if begun and is_used else await _connect(destination, addresses, deadline, seconds)


async def _finishes(begun: HeadStart, destination: Destination, addresses: list[Address], deadline: float) -> bool:
    if destination.option("bindaddress") or not addresses or not begun.leads_to(*addresses[0]):
        return False
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(loop.time() + (deadline - loop.time()) / len(addresses)):
            await loop.sock_connect(begun.socket, addresses[0][1])
    except OSError as error:
        return head_start.is_connected(error)
    return True


async def _connect(
    destination: Destination, addresses: list[Address], deadline: float, seconds: float
) -> socket.socket:
    """Connect to the first address that answers; each gets an equal share of the remaining time."""
    loop = asyncio.get_running_loop()
    failure: OSError = TimeoutError()
    for number, (family, address) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if source := destination.option("bindaddress"):
                sock.bind((source, 0))
            async with asyncio.timeout((deadline - loop.time()) / (len(addresses) - number)):
                await loop.sock_connect(sock, address)
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if isinstance(failure, ConnectionRefusedError):
        raise NoBanner(f"{destination} refused the connection: no SSH server answers there") from failure
    if isinstance(failure, TimeoutError):
        raise NoBanner(f"{destination} did not answer within {seconds:g} s") from failure
    raise NoBanner(f"{destination} cannot be reached: {failure.strerror or failure}") from failure


@asynccontextmanager
async def _through_proxy_command(
    destination: Destination, command: str
) -> AsyncIterator[tuple[socket.socket, IO[bytes]]]:
    """Run a `ProxyCommand` as ssh does, but in a session of its own: it must not prompt on the terminal unnoticed."""
    ours, its = socket.socketpair()
    shell = os.environ.get("SHELL") or "/bin/sh"
    with closing(ours), tempfile.TemporaryFile() as stderr:
        with closing(its):
            process = await asyncio.create_subprocess_exec(
                shell, "-c", f"exec {destination.expand(command)}",
                stdin=its.fileno(), stdout=its.fileno(), stderr=stderr, start_new_session=True,
            )  # fmt: skip
        try:
            ours.setblocking(False)
            yield ours, stderr
        finally:
            await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Send SIGHUP, as ssh does, then SIGKILL after 2 s."""
    for number in (signal.SIGHUP, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP_TIMEOUT):
                await process.wait()
                return

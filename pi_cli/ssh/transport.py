"""The way to an SSH server: a socket, over the network or through a `ProxyCommand`."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import IO

from pi_cli.ssh.ssh_config import Destination

QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


class Blocked(Exception):
    """The way ends before an SSH server has said a word."""


@dataclass(frozen=True, slots=True)
class Way:
    """A socket that leads to where an SSH server should be.

    `left` are the seconds within which it has to say its first word, and `silence` is what it means if it does not.
    """

    socket: socket.socket
    left: float
    silence: str
    _complaints: IO[bytes] | None = None

    def refuse_end(self, destination: Destination) -> None:
        """Raise `Blocked` if what has ended without a word was a `ProxyCommand`."""
        if self._complaints:
            self._complaints.seek(0)
            lines = self._complaints.read().decode("utf-8", "replace").strip().splitlines()
            raise Blocked(f"the ProxyCommand of {destination} ended: {lines[-1] if lines else 'it said nothing'}")


@asynccontextmanager
async def opened(destination: Destination, seconds: float) -> AsyncIterator[Way]:
    """Open a way; that, and the server's first word after it, may take so many seconds.

    Raises `Blocked`, saying how far it came.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    if command := destination.one("proxycommand"):
        async with _proxied(destination, command) as (end, complaints):
            silence = f"the ProxyCommand of {destination} said nothing within {seconds:g} s"
            yield Way(end, until - clock(), silence, complaints)
        return
    addresses = await _resolved(destination, until, seconds)
    with closing(await _connected(destination, addresses, until, seconds)) as end:
        silence = f"{destination} accepts connections but says nothing (no SSH banner within {seconds:g} s)"
        yield Way(end, until - clock(), silence)


def acknowledge_at_once(end: socket.socket) -> None:
    """Have the kernel acknowledge what has come so far now, not in 40 ms; that holds for a moment only.

    After the login sshd has a small packet out, and keeps the next until that is acknowledged (Nagle's algorithm): the
    first command took 52 ms where it takes 9. Linux alone can be told so.
    """
    if QUICK_ACK is not None and end.family in FAMILIES.values():
        with suppress(OSError):
            end.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)


async def _resolved(destination: Destination, until: float, seconds: float) -> list[tuple[int, tuple[object, ...]]]:
    family = FAMILIES.get(destination.one("addressfamily") or "", socket.AF_UNSPEC)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            found = await loop.getaddrinfo(destination.host, destination.port, family=family, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Blocked(f"there is no host {destination} ({reason})") from error
    except TimeoutError as error:
        raise Blocked(f"the name of {destination} was not resolved within {seconds:g} s") from error
    return [(family, address) for family, _, _, _, address in found]


async def _connected(
    destination: Destination, addresses: list[tuple[int, tuple[object, ...]]], until: float, seconds: float
) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time that is left."""
    loop = asyncio.get_running_loop()
    failure: OSError = TimeoutError()
    for number, (family, address) in enumerate(addresses):
        end = socket.socket(family, socket.SOCK_STREAM)
        try:
            end.setblocking(False)
            if source := destination.one("bindaddress"):
                end.bind((source, 0))
            async with asyncio.timeout((until - loop.time()) / (len(addresses) - number)):
                await loop.sock_connect(end, address)
        except OSError as error:
            failure = error
            end.close()
        except BaseException:
            end.close()
            raise
        else:
            return end
    if isinstance(failure, ConnectionRefusedError):
        raise Blocked(f"{destination} refused the connection: no SSH server answers there") from failure
    if isinstance(failure, TimeoutError):
        raise Blocked(f"{destination} did not answer within {seconds:g} s") from failure
    raise Blocked(f"{destination} cannot be reached: {failure.strerror or failure}") from failure


@asynccontextmanager
async def _proxied(destination: Destination, command: str) -> AsyncIterator[tuple[socket.socket, IO[bytes]]]:
    """Run a `ProxyCommand` as ssh does, in a session of its own: nothing in it can ask the terminal behind our back."""
    ours, its = socket.socketpair()
    shell = os.environ.get("SHELL") or "/bin/sh"
    with closing(ours), tempfile.TemporaryFile() as complaints:
        with closing(its):
            process = await asyncio.create_subprocess_exec(
                shell, "-c", f"exec {destination.filled_in(command)}",
                stdin=its.fileno(), stdout=its.fileno(), stderr=complaints, start_new_session=True,
            )  # fmt: skip
        try:
            ours.setblocking(False)
            yield ours, complaints
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Hang up on a command as ssh does, and insist after a moment."""
    for number in (signal.SIGHUP, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await process.wait()
                return

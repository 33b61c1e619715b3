"""The way to an SSH server: a socket, over the network or through a `ProxyCommand`, at whose other end one speaks."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import IO

from pi_cli.pods.ssh_config import Destination

GREETING = 255  # bytes; the longest first line that SSH allows
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


class Blocked(Exception):
    """The way ends before an SSH server has said a word."""


@dataclass(frozen=True, slots=True)
class Way:
    """A socket that leads to an SSH server, and what the server said first: it is still to be read from the socket."""

    socket: socket.socket
    greeting: str


@asynccontextmanager
async def opened(destination: Destination, seconds: float) -> AsyncIterator[Way]:
    """Open a way and wait for the server's first word; both together may take so many seconds.

    Raises `Blocked`, saying how far it came, or `ConnectionResetError`.
    """
    until = asyncio.get_running_loop().time() + seconds
    command = destination.one("proxycommand")
    if command:
        async with _proxied(destination, command) as (end, complaints):
            yield Way(end, await _greeting(end, until, destination, seconds, complaints))
        return
    addresses = await _resolved(destination, until, seconds)
    with closing(await _connected(destination, addresses, until, seconds)) as end:
        yield Way(end, await _greeting(end, until, destination, seconds, None))


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


async def _greeting(
    end: socket.socket, until: float, destination: Destination, seconds: float, complaints: IO[bytes] | None
) -> str:
    """Wait for the first words of the server, and leave them to be read. Raises `Blocked`."""
    try:
        async with asyncio.timeout_at(until):
            await _readable(end)
    except TimeoutError as error:
        if complaints:
            raise Blocked(f"the ProxyCommand of {destination} said nothing within {seconds:g} s") from error
        raise Blocked(
            f"{destination} accepts connections but says nothing (no SSH banner within {seconds:g} s)"
        ) from error
    said = end.recv(GREETING, socket.MSG_PEEK).decode("ascii", "replace")
    if not said and complaints:
        complaints.seek(0)
        lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
        raise Blocked(f"the ProxyCommand of {destination} ended: {lines[-1] if lines else 'it said nothing'}")
    return said


async def _readable(end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(end, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(end)

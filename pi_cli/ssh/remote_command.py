"""Run a command on a pod for the user, as `ssh POD COMMAND` does, over a login that asks for everything at once."""

import asyncio
import os
import select
import stat
from collections.abc import Callable
from contextlib import suppress

from pi_cli.errors import PodUnreachable
from pi_cli.ssh import login
from pi_cli.ssh.first import First
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.session import FAILURES, PodSession, connection_errors
from pi_cli.store.records import Pod

STDIN, STDOUT, STDERR = 0, 1, 2  # not those of `sys`, which may be closed, and keep bytes back
READ_SIZE = 1 << 18  # bytes read at a time, at most
NO_CODE = 255  # ssh's exit code when the command has none: a signal has ended it


async def run(name: str, pod: Pod, command: str) -> int:
    """Run a command with the stdin, stdout and stderr of this process, and return its exit code.

    Raises `NotEarly` if the user's own ssh has to do it: the command has not run then, and nothing was read from stdin.
    Whatever ends this process ends the connection, and stdin on the pod with it.
    """
    async with login.connect(
        name, pod.ssh, connect_timeout=pod.connect_timeout, at_once=True, early_only=True
    ) as session:
        with connection_errors(name):
            process = await session.process_of(First(command))
        return await _attached(session, process)


async def _attached(session: PodSession, process: asyncssh.SSHClientProcess[bytes]) -> int:
    feeding = asyncio.create_task(_feed(process.stdin))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_copy(session.pod, process.stdout, STDOUT))
            group.create_task(_copy(session.pod, process.stderr, STDERR))
        with connection_errors(session.pod):
            await process.wait_closed()
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        feeding.cancel()
    if process.exit_status is None:
        raise PodUnreachable(session.pod, "the connection was lost")
    return process.exit_status if process.exit_status >= 0 else NO_CODE


async def _feed(stdin: asyncssh.SSHWriter[bytes]) -> None:
    with suppress(*FAILURES):  # the command may end without reading all; reading its output reports a lost connection
        while data := await _read(STDIN):
            stdin.write(data)
            await stdin.drain()
        stdin.write_eof()


async def _copy(pod: str, stream: asyncssh.SSHReader[bytes], descriptor: int) -> None:
    while True:
        with connection_errors(pod):
            data = await stream.read(READ_SIZE)
        if not data:
            return
        await _write(descriptor, data)


async def _read(descriptor: int) -> bytes:
    """Return what can be read; empty at the end. A stdin that is closed, or a terminal that is gone, has ended."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            if not select.select((descriptor,), (), (), 0)[0]:
                await _until_ready(descriptor, loop.add_reader, loop.remove_reader)
            return os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            continue
        except OSError:
            return b""


async def _write(descriptor: int, data: bytes) -> None:
    """Write all without blocking: the connection is kept alive while a pager waits for its user."""
    loop = asyncio.get_running_loop()
    # What is ready takes this much at once, and a file everything. Other processes share the descriptor's mode.
    mode = os.fstat(descriptor).st_mode
    may_block = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor)
    size = select.PIPE_BUF if may_block else len(data)
    rest = memoryview(data)
    while rest:
        if not select.select((), (descriptor,), (), 0)[1]:
            await _until_ready(descriptor, loop.add_writer, loop.remove_writer)
        with suppress(BlockingIOError):
            rest = rest[os.write(descriptor, rest[:size]) :]


async def _until_ready(descriptor: int, add: Callable[..., None], remove: Callable[[int], object]) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)

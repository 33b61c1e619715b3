"""Run one command for one SSH channel, as sshd does: under bash, in its own session, independent of the channel.

The streams are copied by hand: asyncssh's own `redirect` leaves a coroutine unawaited when its loop ends.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pi_cli.ssh.quick_asyncssh import asyncssh

Channel = asyncssh.SSHServerProcess[bytes]

READ_SIZE = 65536

# The signals that have a name in RFC 4254; the client gets any other as an exit status.
NAMED_SIGNALS = {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"}

# The terminal modes of RFC 4254 that clients request: number, index in `termios.tcgetattr`, flag.
TERMINAL_MODES = (
    (asyncssh.PTY_ICRNL, 0, termios.ICRNL),
    (asyncssh.PTY_OPOST, 1, termios.OPOST),
    (asyncssh.PTY_ONLCR, 1, termios.ONLCR),
    (asyncssh.PTY_ISIG, 3, termios.ISIG),
    (asyncssh.PTY_ICANON, 3, termios.ICANON),
    (asyncssh.PTY_ECHO, 3, termios.ECHO),
)


@dataclass
class _StreamEnds:
    """The server's ends of a command's streams, as non-blocking descriptors; with a terminal they are all the same."""

    stdin: int
    stdout: int
    stderr: int | None
    terminal: int | None = None

    def close_stdin(self) -> None:
        if self.terminal is None and self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        self.close_stdin()
        for descriptor in (self.stdout, self.stderr):
            if descriptor is not None:
                os.close(descriptor)


async def serve(channel: Channel, *, home: Path, environment: Mapping[str, str]) -> None:
    """Run the command of `channel` (or a login shell if it has none) and wait until it exits.

    If the client disconnects, the command only loses its streams, as with OpenSSH; on a terminal it gets SIGHUP.
    """
    variables = {name: value for name, value in channel.env.items() if name == "LANG" or name.startswith("LC_")}
    if channel.term_type:
        variables["TERM"] = channel.term_type
    argv = ["bash", "-c", channel.command] if channel.command is not None else ["bash", "-l"]
    child, ends = await _start(channel, argv, home, {**environment, **variables})
    try:
        await _pump(channel, child, ends)
    finally:
        ends.close()
        await child.wait()


async def _start(
    channel: Channel, argv: list[str], home: Path, environment: Mapping[str, str]
) -> tuple[asyncio.subprocess.Process, _StreamEnds]:
    with contextlib.ExitStack() as theirs:  # the child's ends, closed here once the child has them
        if channel.term_type:
            ends, streams, name = _open_terminal(channel)
            # When a session leader opens a terminal, it becomes the controlling terminal.
            argv = ["/bin/sh", "-c", 'exec "$@" < "$0" > "$0" 2>&1', name, *argv]
        else:
            ends, streams = _open_pipes()
        for descriptor in set(streams):
            theirs.callback(os.close, descriptor)
        try:
            stdin, stdout, stderr = streams
            child = await asyncio.create_subprocess_exec(
                *argv, stdin=stdin, stdout=stdout, stderr=stderr, cwd=home, env=environment, start_new_session=True
            )
        except BaseException:
            ends.close()
            raise
    return child, ends


def _open_pipes() -> tuple[_StreamEnds, tuple[int, int, int]]:
    (their_in, our_in), (our_out, their_out), (our_err, their_err) = os.pipe(), os.pipe(), os.pipe()
    for descriptor in (our_in, our_out, our_err):
        os.set_blocking(descriptor, False)
    return _StreamEnds(our_in, our_out, our_err), (their_in, their_out, their_err)


def _open_terminal(channel: Channel) -> tuple[_StreamEnds, tuple[int, int, int], str]:
    ours, theirs = os.openpty()
    attributes = termios.tcgetattr(theirs)
    for mode, index, flag in TERMINAL_MODES:
        if mode in channel.term_modes:
            attributes[index] = attributes[index] | flag if channel.term_modes[mode] else attributes[index] & ~flag
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    _resize(ours, channel.term_size[0], channel.term_size[1])
    os.set_blocking(ours, False)
    # The child opens it again by name; until then, this open end keeps the terminal alive.
    return _StreamEnds(ours, ours, None, terminal=ours), (theirs, theirs, theirs), os.ttyname(theirs)


def _resize(terminal: int, width: int, height: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


async def _pump(channel: Channel, child: asyncio.subprocess.Process, ends: _StreamEnds) -> None:
    """Copy the streams until the command has exited and its output is sent, or until the client disconnects."""

    async def finish() -> None:
        await asyncio.gather(_pass_on(ends.stdout, channel.stdout), _pass_on(ends.stderr, channel.stderr))
        _report_exit(channel, await child.wait())

    tasks = [
        asyncio.create_task(work) for work in (finish(), channel.channel.wait_closed(), _feed(channel, child, ends))
    ]
    finished, disconnected, _ = tasks
    try:
        await asyncio.wait([finished, disconnected], return_when=asyncio.FIRST_COMPLETED)
        if finished.done():
            finished.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report_exit(channel: Channel, status: int) -> None:
    name = signal.Signals(-status).name.removeprefix("SIG") if status < 0 else ""
    with contextlib.suppress(asyncssh.Error, OSError):  # the client may have just disconnected
        if name in NAMED_SIGNALS:
            channel.exit_with_signal(name)
        else:
            channel.exit(status if status >= 0 else 128 - status)


async def _feed(channel: Channel, child: asyncio.subprocess.Process, ends: _StreamEnds) -> None:
    """Forward the client's input, signals and window size to the command; EOF closes the command's stdin."""
    while True:
        try:
            data = await channel.stdin.read(READ_SIZE)
        except asyncssh.TerminalSizeChanged as change:
            if ends.terminal is not None:
                _resize(ends.terminal, change.width, change.height)
            continue
        except asyncssh.SignalReceived as request:
            with contextlib.suppress(ProcessLookupError, KeyError):
                os.killpg(child.pid, signal.Signals[f"SIG{request.signal}"])
            continue
        except asyncssh.BreakReceived:
            continue
        except (asyncssh.Error, OSError):
            break
        if not data:
            break
        try:
            await _write(ends.stdin, data)
        except OSError:  # the command has closed its stdin
            break
    ends.close_stdin()


async def _pass_on(descriptor: int | None, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Send the command's output to the client, until the command and all its children have closed the stream."""
    while descriptor is not None and (data := await _read(descriptor)):
        try:
            writer.write(data)
            await writer.drain()
        except (asyncssh.Error, OSError):  # the client has disconnected
            return


async def _read(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(descriptor, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(descriptor)
        except OSError:  # EIO: no process has the terminal open any more
            return b""


async def _write(descriptor: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(descriptor, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(descriptor)

"""One SSH connection to a pod, and the operations on it."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pi_cli import waits
from pi_cli.errors import PodUnreachable
from pi_cli.ssh import early, forbidden, losses
from pi_cli.ssh.completed import EXIT_TIMEOUT, Completed, OutputSink
from pi_cli.ssh.first import First
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.store import debug

SESSION_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds between attempts when sshd refuses a session (MaxSessions)
READ_SIZE = 1 << 18  # bytes read at a time, at most
SILENCE = 30.0  # seconds without any message from a program on the pod
SHOWN_COMMAND = 60  # characters of a command in the notes for debugging
MAX_STDERR = 1 << 16  # bytes of a command's stderr that are kept, from its end
DISCARD_PORT = 9  # a well-known port on which hardly any server listens
FIRST_MODEL_PORT = 8001  # which the agent gives to the first model
QUESTION_TIMEOUT = 5.0  # seconds for the pod to say what forbids forwarding
FORBIDDEN = (asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, asyncssh.OPEN_UNKNOWN_CHANNEL_TYPE)

FAILURES = (OSError, asyncssh.Error)  # of reading from an open connection, and writing to it


class PortClosed(Exception):
    """A port on a pod accepts no connections."""


class PodSession:
    """A connection to a pod at `host`, open or being opened: then each operation waits until the login is complete.

    `learned` is the fingerprint of its host key if this connection has pinned it.
    """

    silence: float = SILENCE
    """Seconds without any message after which a program that should send some counts as hanging."""

    ssh: str = ""
    """The ssh command, for hints."""

    asked_a_person: bool = False
    """Whether the login needed somebody: a passphrase, a code, a touch of a security key."""

    learned: str | None = None
    learned_on_the_way: Mapping[str, str] = MappingProxyType({})
    """Fingerprints of the jump hosts whose keys this connection has pinned, by host."""

    first: First | None = None
    """What travels with the login, if that can be (`early`)."""

    environment: Mapping[str, str] = MappingProxyType({})
    """Variables that go with a command that the user runs (`process_of`)."""

    login: "asyncio.Future[None] | None" = None
    """The login while it goes on."""

    def __init__(self, pod: str, host: str) -> None:
        self.pod = pod
        self.host = host
        self._opened: asyncssh.SSHClientConnection | None = None
        # Commands that run already, and what they were sent on stdin: none, or a request that travelled with the login.
        self._ahead: dict[str, tuple[asyncssh.SSHClientProcess[bytes], bytes]] = {}

    def opened(self, connection: asyncssh.SSHClientConnection) -> None:
        """Take the connection of a login that is complete."""
        self._opened = connection

    def began_with(self, first: First, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """Take the command that has travelled with the login, for the next `stream` of it."""
        self._ahead[first.command] = process, first.input

    def first_of_all(self) -> First | None:
        """Return what is to travel with the login, with its variables."""
        return self.first and replace(self.first, environment=tuple(self.environment.items()))

    async def logged_in(self, first: First | None = None) -> None:
        """Wait until the login is complete. Raises its error.

        `first` is what is run next: it travels with the login, if that is not too late and the server is known.
        """
        if self.login:
            self.first = self.first or first
            await asyncio.shield(self.login)

    @property
    def _connection(self) -> asyncssh.SSHClientConnection:
        assert self._opened  # every operation waits for the login
        return self._opened

    @property
    def host_key(self) -> str:
        """The host key that the pod presented, as an OpenSSH public key line."""
        key = self._connection.get_server_host_key()
        assert key is not None
        return " ".join(key.export_public_key("openssh").decode().split()[:2])

    async def run(self, command: str, *, input: bytes = b"") -> Completed:
        """Run a short command to its end."""
        await self.logged_in()
        with connection_errors(self.pod), waits.on("waiting for", self.pod):
            process = await self._start(command, input=input)
            done = await process.wait(check=False)
        return Completed(_status(self.pod, done.exit_status), _as_bytes(done.stdout), _as_bytes(done.stderr))

    async def stream(
        self,
        command: str,
        sink: OutputSink,
        *,
        input: bytes = b"",
        more: Iterable[bytes] | AsyncIterable[bytes] | None = None,
        exit_timeout: Callable[[], float] | None = None,
    ) -> Completed:
        """Run a command that exits when its stdin ends; pass its output to `sink` as it arrives.

        An awaitable that `sink` returns is awaited before more is read. When the caller is cancelled or fails, the
        command has `exit_timeout()` seconds to clean up while its output is still read; then it cleans up unobserved.
        `more` is sent after `input`, as fast as the command reads it, and stdin ends behind it.

        stdin stays open until the command exits or the caller leaves: Ctrl+C, a lost connection and `kill -9` of pi all
        close it. (When a channel is closed, OpenSSH leaves a plain command running, and before OpenSSH 10 root's sshd
        ignores signals.)
        """
        await self.logged_in()
        with connection_errors(self.pod):
            process = await self._begun(command, input)
        debug.note(f"{self.pod}: {len(input)} bytes to its stdin")
        stderr_tail = asyncio.create_task(_read_tail(process.stderr))
        feeding = asyncio.create_task(_feed(process.stdin, more))
        try:
            while chunk := await self._read(process.stdout):
                if waiting := sink(chunk):  # its errors are its own, not the pod's
                    await waiting
            with connection_errors(self.pod):
                await process.wait_closed()
                stderr = await stderr_tail
        except BaseException:
            feeding.cancel()
            await self._stop(process, exit_timeout() if exit_timeout else EXIT_TIMEOUT)
            raise
        finally:
            stderr_tail.cancel()
            feeding.cancel()
        debug.note(f"{self.pod}: the command ended with {process.exit_status}")
        return Completed(_status(self.pod, process.exit_status), b"", stderr)

    async def process_of(self, first: First) -> asyncssh.SSHClientProcess[bytes]:
        """Return the process of a command that has travelled with the login, or start it: in either case once."""
        await self.logged_in(first)
        process, _ = self._ahead.pop(first.command, (None, b""))
        return process or await self._start(first.command, env=self.environment)

    async def open_ahead(self, command: str) -> None:
        """Start a command that does nothing before it has input; the next `stream` of it need not wait for two round
        trips. A server that refuses (MaxSessions) is not asked again; what is not used ends with the connection."""
        await self.logged_in()
        with suppress(OSError, asyncssh.Error):
            self._ahead[command] = await self._connection.create_process(command, encoding=None), b""

    async def require_forwarding(self, *, or_runs_nothing: bool = False) -> None:
        """Check that sshd allows port forwarding, which some forbid, before anything large is downloaded.

        No server needs to listen on the port: a refused connection proves as much as an accepted one. `PermitOpen` may
        allow the ports of models alone. With `or_runs_nothing`, a pod that runs no commands either passes: the next
        command says why.
        """
        await self.logged_in()
        for port in (DISCARD_PORT, FIRST_MODEL_PORT):
            if not (refusal := await self._forbids(port)):
                return
        answer = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(QUESTION_TIMEOUT):
                answer = (await self.run(forbidden.COMMAND, input=forbidden.QUESTION.encode())).stdout
        if or_runs_nothing and not forbidden.answers(answer):
            return
        cause = forbidden.cause(answer)
        raise PodUnreachable(
            self.pod,
            "its sshd forbids port forwarding, which pi needs to reach models" + (cause.name and f": {cause.name}"),
            hint=cause.hint,
        ) from refusal

    async def _forbids(self, port: int) -> PodUnreachable | None:
        """Return the error with which sshd refuses to forward to a port, None if it does not."""
        try:
            with connection_errors(self.pod):
                reader, writer = await self._connection.open_connection("127.0.0.1", port)
            writer.close()
            del reader
        except PodUnreachable as error:
            refusal = error.__cause__
            if not isinstance(refusal, asyncssh.ChannelOpenError) or self._connection.is_closed():
                raise
            return error if refusal.code in FORBIDDEN else None
        return None

    @property
    def is_lost(self) -> bool:
        return self._opened is not None and self._opened.is_closed()

    async def open_stream(self, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """Open a connection to a port on the pod's loopback. Raises `PortClosed` if the pod refuses it."""
        await self.logged_in()
        try:
            with connection_errors(self.pod), waits.on("waiting for", self.pod):
                return await self._connection.open_connection("127.0.0.1", port)
        except PodUnreachable as error:
            if isinstance(error.__cause__, asyncssh.ChannelOpenError) and not self.is_lost:
                raise PortClosed(str(error.__cause__)) from error
            raise

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """End the block with `PodUnreachable` when the connection is lost, whatever error the block raises then.

        This interrupts the block: asyncssh does not close a forwarded port that is being opened at that moment, so it
        would stay open and silent.
        """
        await self.logged_in()
        connection = self._connection
        async with losses.ended_by(connection.wait_closed(), self.pod, connection.is_closed):
            yield

    async def _begun(self, command: str, input: bytes) -> asyncssh.SSHClientProcess[bytes]:
        """Return the process of a command that has its input: one that was opened ahead, or else a new one."""
        process, sent = self._ahead.pop(command, (None, b""))
        if process and sent and sent == input:
            return process  # it may have ended already: its output and its status are here
        if process is None or sent or process.is_closing():
            process = await self._start(command)
        with suppress(BrokenPipeError):  # if the command has exited already, its status shows that
            process.stdin.write(input)
        return process

    async def _start(self, command: str, **options: Any) -> asyncssh.SSHClientProcess[bytes]:
        """Start a command. An sshd that allows one session at a time needs a moment to see that the last one ended."""
        debug.note(f"{self.pod}: runs {command[:SHOWN_COMMAND]}")
        for pause in SESSION_PAUSES:
            try:
                return await self._connection.create_process(command, encoding=None, **options)
            except asyncssh.ChannelOpenError:
                if self._connection.is_closed():
                    raise
            await asyncio.sleep(pause)
        return await self._connection.create_process(command, encoding=None, **options)

    async def _read(self, stream: asyncssh.SSHReader[bytes]) -> bytes:
        with connection_errors(self.pod):
            return await stream.read(READ_SIZE)

    async def _stop(self, process: asyncssh.SSHClientProcess[bytes], seconds: float) -> None:
        """Close a command's stdin and give it a moment to clean up; the connection may be lost already.

        Its remaining output is read and discarded, so that the command never blocks on it.
        """
        with suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()
            async with asyncio.timeout(seconds):
                while await process.stdout.read(READ_SIZE):
                    pass
                await process.wait_closed()


@contextmanager
def connection_errors(pod: str) -> Iterator[None]:
    """Turn every failure of an open connection into `PodUnreachable`, naming the pod."""
    try:
        yield
    except asyncssh.ChannelOpenError as error:
        if error.reason == early.CLOSED:
            raise PodUnreachable(pod, "the connection was lost") from error
        raise PodUnreachable(pod, f"it refused a session: {error.reason}") from error
    except (OSError, asyncssh.Error) as error:
        raise PodUnreachable(pod, f"the connection was lost: {error}") from error


def _status(pod: str, status: int | None) -> int:
    """Return the exit status, which asyncssh leaves at None, without an exception, when the connection is lost."""
    if status is None:
        raise PodUnreachable(pod, "the connection was lost")
    return status


async def _read_tail(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """Return the end of a stream, reading all of it: unread, it would fill the window that stdout shares."""
    last = b""
    with suppress(OSError, asyncssh.Error):  # reading stdout reports a lost connection
        while chunk := await stream.read(READ_SIZE):
            last = (last + chunk)[-MAX_STDERR:]
    return last


async def _feed(stdin: asyncssh.SSHWriter[bytes], chunks: Iterable[bytes] | AsyncIterable[bytes] | None) -> None:
    """Write chunks, waiting while the other end does not read; then end stdin, also if they cannot be read."""
    if chunks is None:
        return
    with suppress(OSError, asyncssh.Error):  # reading stdout reports a lost connection
        try:
            if isinstance(chunks, AsyncIterable):
                async for chunk in chunks:
                    stdin.write(chunk)
            else:
                for chunk in chunks:
                    stdin.write(chunk)
                    await stdin.drain()
        finally:
            stdin.write_eof()


def _as_bytes(output: Any) -> bytes:
    return output if isinstance(output, bytes) else b""

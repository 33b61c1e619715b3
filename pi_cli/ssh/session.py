"""One SSH connection to a pod, and what can be done over it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.ssh.quick_asyncssh import asyncssh

LET_GO_TIMEOUT = 2.0  # seconds for a command to clean up after us
SESSION_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # and where it refuses a session (MaxSessions)
CHUNK = 1 << 18  # bytes read at a time, at most
MOST_STDERR = 1 << 16  # bytes of a command's stderr that are kept, the last ones
DISCARD_PORT = 9  # a well-known port where hardly ever anybody listens

Sink = Callable[[bytes], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Completed:
    """What a remote command said and how it ended; output is bytes, since remote text may hold anything."""

    status: int
    stdout: bytes
    stderr: bytes


class NobodyListens(Exception):
    """A port on a pod takes no connections."""


class PodSession:
    """An open connection to a pod, which is at `host`.

    `learned` is the fingerprint of its host key if we met it only now.
    """

    learned: str | None = None
    learned_on_the_way: Mapping[str, str] = MappingProxyType({})
    """Fingerprints of the jump hosts that we met only now, by host."""

    def __init__(self, pod: str, host: str, connection: asyncssh.SSHClientConnection) -> None:
        self.pod = pod
        self.host = host
        self._connection = connection

    @property
    def host_key(self) -> str:
        """The key the pod showed, as an OpenSSH public key line."""
        key = self._connection.get_server_host_key()
        assert key is not None
        return " ".join(key.export_public_key("openssh").decode().split()[:2])

    async def run(self, command: str, *, input: bytes = b"") -> Completed:
        """Run a short command to its end."""
        with connection_errors(self.pod):
            process = await self._begin(command, input=input)
            done = await process.wait(check=False)
        return Completed(_status(self.pod, done.exit_status), _bytes(done.stdout), _bytes(done.stderr))

    async def stream(
        self, command: str, sink: Sink, *, input: bytes = b"", patience: float = LET_GO_TIMEOUT
    ) -> Completed:
        """Run a command that watches its stdin and ends with it; pass on its output as it comes.

        What `sink` returns is waited for before more is read. When we go, the command has `patience` seconds to clean
        up while we still listen; it goes on with that when we have left.

        stdin stays open until the command has ended, or we go: Ctrl+C, a lost link and `kill -9` of pi alike close
        it. (Closing a channel on OpenSSH leaves a plain command running, and root's sshd ignores signals before
        OpenSSH 10.)
        """
        with connection_errors(self.pod):
            process = await self._begin(command)
            with suppress(BrokenPipeError):  # what has ended already says why below
                process.stdin.write(input)
        complaints = asyncio.create_task(_last_of(process.stderr))
        try:
            while chunk := await self._read(process.stdout):
                if waiting := sink(chunk):  # its errors are its own, not the pod's
                    await waiting
            with connection_errors(self.pod):
                await process.wait_closed()
                stderr = await complaints
        except BaseException:
            await self._let_go(process, patience)
            raise
        finally:
            complaints.cancel()
        return Completed(_status(self.pod, process.exit_status), b"", stderr)

    async def require_forwarding(self) -> None:
        """Find out before a model is loaded whether sshd lets us reach its port; some are told not to.

        Nobody listens on the port asked for: that it could not be reached is as good an answer as that it could.
        """
        try:
            with connection_errors(self.pod):
                reader, writer = await self._connection.open_connection("127.0.0.1", DISCARD_PORT)
            writer.close()
            del reader
        except PodUnreachable as error:
            refusal = error.__cause__
            if not isinstance(refusal, asyncssh.ChannelOpenError) or self._connection.is_closed():
                raise
            if refusal.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED:
                raise PodUnreachable(
                    self.pod,
                    "its sshd forbids port forwarding, without which no model there can be reached",
                    hint="set `AllowTcpForwarding yes` in the pod's /etc/ssh/sshd_config and restart its sshd",
                ) from error

    @asynccontextmanager
    async def forward(self, port: int) -> AsyncIterator[Path]:
        """Open a unix socket that leads to a port on the pod's loopback; nobody else on this machine can use it."""
        with tempfile.TemporaryDirectory(prefix="pi-") as folder:
            path = Path(folder, "pod")
            with connection_errors(self.pod):
                listener = await self._connection.forward_local_path_to_port(str(path), "127.0.0.1", port)
            with closing(listener):
                async with self.while_connected():
                    yield path

    @property
    def is_lost(self) -> bool:
        return self._connection.is_closed()

    async def reach(self, port: int) -> tuple[asyncssh.SSHReader[bytes], asyncssh.SSHWriter[bytes]]:
        """Open a connection to a port on the pod's loopback. Raises `NobodyListens` where that is refused there."""
        try:
            with connection_errors(self.pod):
                return await self._connection.open_connection("127.0.0.1", port)
        except PodUnreachable as error:
            if isinstance(error.__cause__, asyncssh.ChannelOpenError) and not self.is_lost:
                raise NobodyListens(str(error.__cause__)) from error
            raise

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """End the block with `PodUnreachable` when the connection is lost, whatever the block makes of that.

        A forwarded port that is being opened in that moment stays open, and silent: asyncssh does not close it.
        """
        lost = asyncio.create_task(self._connection.wait_closed())
        try:
            async with asyncio.timeout(None) as patience:

                def interrupt(_: object) -> None:
                    with suppress(RuntimeError):  # the block has ended already
                        patience.reschedule(0)

                lost.add_done_callback(interrupt)
                yield
        except (PiError, TimeoutError) as error:
            if self._connection.is_closed():
                raise PodUnreachable(self.pod, "the connection was lost") from error
            raise
        finally:
            lost.cancel()

    async def _begin(self, command: str, **options: Any) -> asyncssh.SSHClientProcess[bytes]:
        """Begin a command; where sshd allows one session only, it needs a moment to see that the last one has ended."""
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
            return await stream.read(CHUNK)

    async def _let_go(self, process: asyncssh.SSHClientProcess[bytes], seconds: float) -> None:
        """Close a command's stdin and give it a moment to clean up; the connection may be gone already.

        What it still says is thrown away, so that it never waits for us to read it.
        """
        with suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()
            async with asyncio.timeout(seconds):
                while await process.stdout.read(CHUNK):
                    pass
                await process.wait_closed()


@contextmanager
def connection_errors(pod: str) -> Iterator[None]:
    """Turn every way an open connection can fail into `PodUnreachable`, naming the pod."""
    try:
        yield
    except asyncssh.ChannelOpenError as error:
        raise PodUnreachable(pod, f"it refused a session: {error.reason}") from error
    except (OSError, asyncssh.Error) as error:
        raise PodUnreachable(pod, f"the connection was lost: {error}") from error


def _status(pod: str, status: int | None) -> int:
    """A lost connection ends a command without a status, and without an exception."""
    if status is None:
        raise PodUnreachable(pod, "the connection was lost")
    return status


async def _last_of(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """Read a stream to its end and return the last of it: unread, it would fill the window that stdout needs too."""
    last = b""
    with suppress(OSError, asyncssh.Error):  # of a lost link, stdout tells
        while chunk := await stream.read(CHUNK):
            last = (last + chunk)[-MOST_STDERR:]
    return last


def _bytes(output: Any) -> bytes:
    return output if isinstance(output, bytes) else b""

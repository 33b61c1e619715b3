"""One SSH connection to a pod, and what can be done over it."""

import asyncio
import random
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from pi_cli.errors import HostKeyChanged, PiError, PodUnreachable
from pi_cli.pods import host_keys, ssh_command

CONNECT_TIMEOUT = 15.0  # seconds until the TCP connection and the SSH banner stand
LOGIN_TIMEOUT = 30.0
KEEPALIVE = 7.0  # seconds between keepalives; with three unanswered ones, 28 s in all, a link is dead
LET_GO_TIMEOUT = 2.0  # seconds for a command to clean up after us; it goes on with that when we have left
LOGIN_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds until the next try where sshd drops logins (MaxStartups)
SESSION_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # and where it refuses a session (MaxSessions)
CHUNK = 65536
DISCARD_PORT = 9  # a well-known port where hardly ever anybody listens


@dataclass(frozen=True, slots=True)
class Completed:
    """What a remote command said and how it ended; output is bytes, since remote text may hold anything."""

    status: int
    stdout: bytes
    stderr: bytes


class PodSession:
    """An open connection to a pod; `learned` is the fingerprint of its host key if we met it only now."""

    learned: str | None = None

    def __init__(self, pod: str, connection: asyncssh.SSHClientConnection) -> None:
        self.pod = pod
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

    async def stream(self, command: str, sink: Callable[[bytes], None], *, input: bytes = b"") -> Completed:
        """Run a command that watches its stdin and ends with it; pass on its output as it comes.

        stdin stays open until the command has ended, or we go: Ctrl+C, a lost link and `kill -9` of pi alike close
        it. (Closing a channel on OpenSSH leaves a plain command running, and root's sshd ignores signals before
        OpenSSH 10.)
        """
        with connection_errors(self.pod):
            process = await self._begin(command)
            process.stdin.write(input)
        try:
            while chunk := await self._read(process.stdout):
                sink(chunk)  # its errors are its own, not the pod's
            said = await self._read(process.stderr, -1)
            with connection_errors(self.pod):
                await process.wait_closed()
        except BaseException:
            await self._let_go(process)
            raise
        return Completed(_status(self.pod, process.exit_status), b"", said)

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
                async with self._while_connected():
                    yield path

    @asynccontextmanager
    async def _while_connected(self) -> AsyncIterator[None]:
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

    async def _read(self, stream: asyncssh.SSHReader[bytes], most: int = CHUNK) -> bytes:
        with connection_errors(self.pod):
            return await stream.read(most)

    async def _let_go(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        """Close a command's stdin and give it a moment to clean up; the connection may be gone already."""
        with suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()
            async with asyncio.timeout(LET_GO_TIMEOUT):
                await process.wait_closed()


@asynccontextmanager
async def connect(pod: str, ssh: str, *, learn: bool = False, accept_new: bool = False) -> AsyncIterator[PodSession]:
    """Log in to a pod and verify that it is the machine we know.

    With `learn` (setup) the key of a pod without one is trusted and remembered; with `accept_new` a changed key is.
    """
    command = ssh_command.parse(ssh)
    refuse_known_traps(pod, command)
    keys = _HostKeys(pod, learn=learn, accept_new=accept_new)
    with tempfile.NamedTemporaryFile("w", prefix="pi-", suffix=".conf") as extra:
        extra.write("".join(f"{line}\n" for line in command.options))
        extra.flush()
        hint = "check the ssh command, and that the machine is running" if learn else None
        with _login_errors(pod, ssh, command, keys, hint):
            connection = await _log_in(_options(command, extra.name) | keys.options())
    async with connection:
        session = PodSession(pod, connection)
        keys.remember(session)
        yield session


async def _log_in(options: dict[str, Any]) -> asyncssh.SSHClientConnection:
    """Log in, and try again where sshd hangs up at once: so it does when many logins are under way."""
    for pause in LOGIN_PAUSES:
        with suppress(asyncssh.ConnectionLost, ConnectionResetError):
            return await asyncssh.connect(**options)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - others wait too: not all at once again
    return await asyncssh.connect(**options)


def refuse_known_traps(pod: str, command: ssh_command.SshCommand) -> None:
    """Refuse RunPod's proxy: it offers a terminal only, no commands and no files."""
    if command.host.endswith("ssh.runpod.io"):
        raise PodUnreachable(
            pod,
            "this is RunPod's basic proxy, which runs no commands",
            hint='use the line under "SSH over exposed TCP" in the pod\'s Connect dialog: `ssh root@IP -p PORT -i KEY`',
        )


@contextmanager
def connection_errors(pod: str) -> Iterator[None]:
    """Turn every way an open connection can fail into `PodUnreachable`, naming the pod."""
    try:
        yield
    except asyncssh.ChannelOpenError as error:
        raise PodUnreachable(pod, f"it refused a session: {error.reason}") from error
    except (OSError, asyncssh.Error) as error:
        raise PodUnreachable(pod, f"the connection was lost: {error}") from error


class _HostKeys(asyncssh.SSHClient):
    """Decide about the pod's host key, and keep the one it showed."""

    def __init__(self, pod: str, *, learn: bool, accept_new: bool) -> None:
        self.pod = pod
        self.known = host_keys.read(pod)
        self.learn = accept_new or (learn and self.known is None)
        self.accept_new = accept_new
        self.shown: asyncssh.SSHKey | None = None

    def options(self) -> dict[str, Any]:
        trusted: Any = ([asyncssh.import_public_key(self.known)], [], []) if self.known else self._users_files()
        return {"known_hosts": trusted, "client_factory": lambda: self}

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Answer asyncssh about a key that is not among the trusted ones."""
        del host, addr, port
        self.shown = key
        return self.learn

    def remember(self, session: PodSession) -> None:
        if self.learn or self.known is None:
            host_keys.remember(self.pod, session.host_key)
        if self.shown and self.learn:
            session.learned = str(self.shown.get_fingerprint())

    def _users_files(self) -> Any:
        files = [Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")]
        return [str(file) for file in files if file.is_file()] or ([], [], [])


def _options(command: ssh_command.SshCommand, extra: str) -> dict[str, Any]:
    """Return what asyncssh needs to behave like ssh, without what ssh would carry to a rented machine."""
    config = Path(command.config_file or "~/.ssh/config").expanduser()
    options: dict[str, Any] = {
        "host": command.host,
        "config": [extra, *([str(config)] if config.is_file() else [])],
        "agent_forwarding": False,
        "x11_forwarding": False,
        "command": None,
        "request_pty": False,  # a terminal would echo, and change, what goes through it
        "env": None,
        "send_env": None,
        "password_auth": False,
        "kbdint_auth": False,
        "connect_timeout": CONNECT_TIMEOUT,
        "login_timeout": LOGIN_TIMEOUT,
        "keepalive_interval": KEEPALIVE,
        "keepalive_count_max": 3,
    }
    if command.port:
        options["port"] = command.port
    if command.user:
        options["username"] = command.user
    return options


@contextmanager
def _login_errors(
    pod: str, ssh: str, command: ssh_command.SshCommand, keys: _HostKeys, hint: str | None
) -> Iterator[None]:
    """Say which step of logging in failed: name, network, host key or authentication; `hint` is for the network."""
    where = f"`{command.host}`" + (f" port {command.port}" if command.port else "")
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise _untrusted(pod, ssh, keys) from error
    except asyncssh.PermissionDenied as error:
        raise PodUnreachable(
            pod, f"{where} refused the login ({error.reason})", hint=f"check that `{ssh}` logs in without a password"
        ) from error
    except socket.gaierror as error:
        raise PodUnreachable(pod, f"there is no host {where} ({error.strerror})", hint=hint) from error
    except ConnectionRefusedError as error:
        reason = f"{where} refused the connection: no SSH server answers there"
        raise PodUnreachable(pod, reason, hint=hint) from error
    except TimeoutError as error:
        raise PodUnreachable(pod, f"{where} did not answer within {CONNECT_TIMEOUT:.0f} s", hint=hint) from error
    except asyncssh.ConfigParseError as error:
        raise PiError(f"your ssh configuration cannot be used: {error}") from error
    except asyncssh.KeyImportError as error:
        raise PodUnreachable(pod, f"a key cannot be used: {error}", hint="load it into your ssh agent") from error
    except (OSError, asyncssh.Error) as error:
        if isinstance(error, FileNotFoundError) and error.filename:
            raise PodUnreachable(pod, f"there is no file `{error.filename}`", hint=f"it is named in `{ssh}`") from error
        raise PodUnreachable(pod, f"{where}: {error}", hint=hint) from error


def _untrusted(pod: str, ssh: str, keys: _HostKeys) -> PodUnreachable:
    shown = keys.shown.get_fingerprint() if keys.shown else "unknown"
    if keys.known:
        known = asyncssh.import_public_key(keys.known).get_fingerprint()
        return HostKeyChanged(pod, known=known, shown=shown, setup=f'pi pods setup {pod} "{ssh}" --accept-new-host-key')
    return PodUnreachable(
        pod, f"its host key {shown} is not known here", hint=f'learn it with `pi pods setup {pod} "{ssh}"`'
    )


def _status(pod: str, status: int | None) -> int:
    """A lost connection ends a command without a status, and without an exception."""
    if status is None:
        raise PodUnreachable(pod, "the connection was lost")
    return status


def _bytes(output: Any) -> bytes:
    return output if isinstance(output, bytes) else b""

"""A login that asks for everything at once: the only module that knows asyncssh from the inside.

SSH is a dialogue of twelve round trips until a command has its input. A server that pi knows answers no differently if
the questions come together: our half of the key exchange goes out with our version; the signed key, the session, the
command and its input go out behind the request for the service. That takes three round trips.

All that leaves before the server has proved its identity is what every client sends to everybody: a version, lists of
algorithms, a public key made for this one connection. What follows goes out only after asyncssh has verified the
server's signature with the pinned host key (docs/decisions/0021-hooks-into-asyncssh.md).

asyncssh has no such login, so its own parts are called here. `missing` feels for each of them, and without one pi logs
in as asyncssh does.
"""

import asyncio
import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pi_cli.ssh.early_facts import Server
from pi_cli.ssh.first import First
from pi_cli.ssh.quick_asyncssh import asyncssh

MSG_SERVICE_ACCEPT, MSG_USERAUTH_FAILURE = 6, 51  # numbers of RFC 4250
MSG_CHANNEL_OPEN, MSG_CHANNEL_DATA = 90, 94
FIRST_CHANNEL = 0  # the number that OpenSSH gives to the first session of a connection
CLOSED = "SSH connection closed"  # what asyncssh says of a channel that it opens on a lost connection
MAX_PACKET = 32000  # bytes of input in a packet; OpenSSH takes 32 KiB
MAX_INPUT = 1 << 17  # bytes that may go ahead; a server takes 2 MiB from a session
WINDOW, PACKET = 2 << 20, 32768  # bytes of output that may be on their way to us, and in one packet, as in asyncssh

METHODS = {
    "connection.SSHClientConnection._send": "self data",
    "connection.SSHClientConnection._send_version": "self",
    "connection.SSHClientConnection._send_kexinit": "self",
    "connection.SSHClientConnection._process_service_accept": "self _pkttype _pktid packet",
    "connection.SSHClientConnection._process_userauth_failure": "self _pkttype _pktid packet",
    "connection.SSHClientConnection.public_key_auth_requested": "self",
    "connection.SSHClientConnection.send_packet": "self pkttype args handler",
    "connection.SSHClientConnection.send_service_request": "self service",
    "auth._ClientPublicKeyAuth.__init__": "self conn method",
    "auth._ClientPublicKeyAuth._start": "self",
    "auth._ClientPublicKeyAuth.send_request": "self args key trivial",
    "channel.SSHClientChannel.__init__": "self conn loop utf8_decode_errors encoding errors window max_pktsize",
    "channel.SSHClientChannel._send_request": "self request args want_reply",
    "channel.SSHClientChannel._start_reading": "self",
    "channel.SSHClientChannel.process_open_confirmation": "self send_chan send_window send_pktsize packet",
    "channel.SSHClientChannel.send_packet": "self pkttype args",
    "process.SSHClientProcess.connection_made": "self chan",
    "process.SSHClientProcess.session_started": "self",
    "kex.get_kex": "conn alg",
    "packet.Boolean": "value",
    "packet.String": "value",
    "packet.UInt32": "value",
}
"""What is called or overridden here, by its path in asyncssh, and the names of its parameters."""

CONNECTION = (
    "_auth", "_auth_complete", "_auth_in_progress", "_auth_methods", "_cmp_alg_cs", "_kex", "_kexinit_sent", "_loop",
    "_next_service", "_owner", "_server_kexinit", "_server_sig_algs", "_server_version", "_transport", "_username",
)  # fmt: skip
CHANNEL = (
    "_conn", "_loop", "_open_waiter", "_recv_chan", "_recv_pktsize", "_recv_window", "_request_waiters", "_send_chan",
    "_send_window", "_session",
)  # fmt: skip
"""The attributes of a connection and of a channel that are read or set here."""


class NotGranted(asyncssh.DisconnectError):
    """The server answered an early login otherwise than expected: an ordinary login follows."""

    def __init__(self, reason: str) -> None:
        super().__init__(asyncssh.DISC_BY_APPLICATION, reason)


@dataclass(slots=True)
class Early:
    """An early login: what is known of the server, and what has been sent. `first` returns what is to be run first."""

    server: Server
    first: Callable[[], First | None]
    sent: First | None = None
    has_asked: bool = False
    closing: Exception | None = None  # what the server said, or what was wrong, when the connection was closed
    _connection: "_Connection | None" = None
    _key_exchange: Any = None  # under way, until the server has agreed
    _kexinit_is_out: bool = False
    _granting: "asyncio.Task[asyncssh.SSHClientProcess[bytes]] | None" = None
    _is_corked: bool = False
    _pieces: list[bytes] = field(default_factory=list)
    _was_let_in: bool = False

    def begin(self, connection: asyncssh.SSHClientConnection) -> bool:
        """Take over a connection that has just been made; return whether this asyncssh has what that needs."""
        if not all(name in vars(connection) for name in CONNECTION):
            return False
        connection.__class__ = _Connection  # asyncssh makes its own class only
        assert isinstance(connection, _Connection)
        connection.early = self
        self._connection = connection
        return True

    async def granted(self) -> "asyncssh.SSHClientProcess[bytes] | None":
        """Return the command that was sent ahead, once it runs. Raises `NotGranted` if it does not."""
        if self._granting is None:
            return None
        try:
            return await self._granting
        except asyncssh.ChannelOpenError as error:
            if error.reason == CLOSED:
                raise self.closing or asyncssh.ConnectionLost(CLOSED) from error
            raise NotGranted(f"it granted no session: {error.reason}") from error

    def may_have_run(self, error: Exception) -> bool:
        """Return whether the command may have run although the login ended with this error."""
        if self.sent is None or isinstance(error, NotGranted):
            return False
        is_refusal = isinstance(error, asyncssh.DisconnectError) and not isinstance(error, asyncssh.ConnectionLost)
        return self._was_let_in or not is_refusal  # a server that lets a user in says so before all else

    def end(self) -> None:
        """Give the connection back to asyncssh."""
        if self._granting and not self._granting.done():
            self._granting.cancel()
        if connection := self._connection:
            self._connection, self._is_corked = None, False
            self._was_let_in = connection._auth_complete
            self.flush(connection)
            connection.__class__ = asyncssh.SSHClientConnection  # type: ignore[assignment]

    def flush(self, connection: asyncssh.SSHClientConnection) -> None:
        """Send what was collected in one write: TCP counts packets, and sends ten before it waits for the other end."""
        if self._pieces and not self._is_corked:
            data, self._pieces = b"".join(self._pieces), []
            asyncssh.SSHClientConnection._send(connection, data)


@functools.cache
def missing() -> str | None:
    """Return what this asyncssh lacks of what is used here; None if all is there."""
    for path, parameters in METHODS.items():
        found: Any = asyncssh
        for name in path.split("."):
            found = getattr(found, name, None)
        if not callable(found) or " ".join(inspect.signature(found).parameters) != parameters:
            return path
    return None


def agreed_key_exchange(connection: asyncssh.SSHClientConnection, offered: Sequence[str]) -> str:
    """Return the key exchange that the server agrees to, of those that pi offers; empty if that cannot be known.

    RFC 4253, 7.1: the first of the client's that the server has.
    """
    try:
        packet = asyncssh.packet.SSHPacket(vars(connection)["_server_kexinit"])
        packet.get_bytes(17)  # its type and its cookie
        names = {name.decode("ascii", "replace") for name in packet.get_namelist()}
    except (AttributeError, KeyError, ValueError, asyncssh.packet.PacketDecodeError):
        return ""
    return next((name for name in offered if name in names), "")


class _Connection(asyncssh.SSHClientConnection):
    """A connection during an early login."""

    early: Early

    def _send_version(self) -> None:
        """Send our version and, if the key exchange is known, our half of it."""
        super()._send_version()
        if name := self.early.server.key_exchange:
            super()._send_kexinit()
            self._kexinit_sent = self.early._kexinit_is_out = True
            exchange = asyncssh.kex.get_kex(self, name.encode())
            begun = exchange.start()
            try:
                begun.send(None)  # it sends a packet and waits for nothing
            except StopIteration:
                pass
            else:
                begun.close()
                raise NotGranted(f"{name} cannot be begun ahead")
            exchange.start = _do_nothing  # type: ignore[method-assign]
            self.early._key_exchange = exchange

    def _send_kexinit(self) -> None:
        if self.early._kexinit_is_out:
            self.early._kexinit_is_out = False
        else:
            super()._send_kexinit()

    @property
    def _kex(self) -> Any:
        return vars(self)["_kex"]

    @_kex.setter
    def _kex(self, new: Any) -> None:
        """Use the key exchange that is under way in place of a new one."""
        if new is not None and (begun := self.early._key_exchange):
            self.early._key_exchange = None
            if new.algorithm != begun.algorithm:
                raise NotGranted(f"it chose another key exchange than {begun.algorithm.decode()}")
            new = begun
        vars(self)["_kex"] = new

    def _send(self, data: bytes) -> None:
        if not self.early._pieces:
            self._loop.call_soon(self.early.flush, self)
        self.early._pieces.append(data)

    def send_service_request(self, service: bytes) -> None:
        """Request the service; if the server is the one that is known, ask for all else too.

        asyncssh calls this after the server has proved to have the host key.
        """
        is_known = self._server_version == self.early.server.version.encode() and self._cmp_alg_cs == b"none"
        self.early._is_corked = is_known
        super().send_service_request(service)
        if is_known:
            self._loop.call_soon(self._ask)  # the packets that came along may name the server's signature algorithms

    def _ask(self) -> None:
        if self._transport is None:
            return
        self.early.has_asked = True
        self._server_sig_algs = self._server_sig_algs or {self.early.server.signature.encode()}
        self._auth_in_progress = True
        self._owner.begin_auth(self._username)
        self._auth_methods = [b"publickey"]
        self._auth = _signed_request()(self, b"publickey")

    def ask_for_first(self) -> None:
        """Ask for a session and the first command, whose input follows."""
        first = self.early.first()
        if first is None or len(first.input) > MAX_INPUT:
            return
        channel = _Channel(self, self._loop, "strict", None, "strict", WINDOW, PACKET)
        if not all(name in vars(channel) for name in CHANNEL):
            channel.abort()
            return
        self.early.sent = first
        was_complete, self._auth_complete = self._auth_complete, True  # asyncssh would hold the packets back
        try:
            channel.send_ahead(first)
        finally:
            self._auth_complete = was_complete
        self.early._granting = asyncio.ensure_future(channel.granted())
        self.early._granting.add_done_callback(_take_note)

    def _accept_service(self, _pkttype: int, _pktid: int, packet: asyncssh.packet.SSHPacket) -> None:
        if not self.early.has_asked:
            super()._process_service_accept(_pkttype, _pktid, packet)
            return
        self._next_service = None

    def _fail(self, _pkttype: int, _pktid: int, packet: asyncssh.packet.SSHPacket) -> None:
        if not self.early.has_asked:
            super()._process_userauth_failure(_pkttype, _pktid, packet)
            return
        raise NotGranted("it did not accept the key, or wants more")

    _packet_handlers = {  # noqa: RUF012 - as in asyncssh
        **getattr(asyncssh.SSHClientConnection, "_packet_handlers", {}),
        MSG_SERVICE_ACCEPT: _accept_service,
        MSG_USERAUTH_FAILURE: _fail,
    }


class _Channel(asyncssh.SSHClientChannel[bytes]):
    """A session whose command and first input are sent before it is granted."""

    def send_ahead(self, first: First) -> None:
        string, number = asyncssh.packet.String, asyncssh.packet.UInt32
        self._session = self._process = asyncssh.SSHClientProcess[bytes]()
        self._sent = len(first.input)
        self._opened, self._executed = self._loop.create_future(), self._loop.create_future()
        for waiter in (self._opened, self._executed):
            waiter.add_done_callback(_take_note)
        self._open_waiter = self._opened
        self._request_waiters.append(self._executed)
        assert self._recv_chan is not None
        parameters = number(self._recv_chan), number(self._recv_window), number(self._recv_pktsize)
        self._conn.send_packet(MSG_CHANNEL_OPEN, string(b"session"), *parameters, handler=self)
        self._send_chan = FIRST_CHANNEL
        for name, value in first.environment:
            self._send_request(b"env", string(os.fsencode(name)), string(os.fsencode(value)))
        self._send_request(b"exec", string(os.fsencode(first.command)), want_reply=True)
        for start in range(0, len(first.input), MAX_PACKET):
            self.send_packet(MSG_CHANNEL_DATA, string(first.input[start : start + MAX_PACKET]))
        self._send_chan = None  # until the server names it

    def process_open_confirmation(self, send_chan: int, send_window: int, send_pktsize: int, packet: Any) -> None:
        """Take the number of the channel, and what is left of its window, before the next packet is looked at."""
        super().process_open_confirmation(send_chan, send_window, send_pktsize, packet)
        self._is_first = send_chan == FIRST_CHANNEL
        self._send_window -= self._sent
        self._process.connection_made(self)

    async def granted(self) -> asyncssh.SSHClientProcess[bytes]:
        """Return the process once the server has granted all. Raises `NotGranted`, and `asyncssh.ChannelOpenError`."""
        await self._opened
        if not (self._is_first and await self._executed):
            raise NotGranted("it refused the command, or opened another channel than the first one")
        self._process.session_started()
        await self._start_reading()
        return self._process


@functools.cache
def _signed_request() -> Any:
    """Return the class of a request with a signed key that was not offered before."""

    class SignedRequest(asyncssh.auth._ClientPublicKeyAuth):
        async def _start(self) -> None:
            connection: Any = self._conn
            boolean, string = asyncssh.packet.Boolean, asyncssh.packet.String
            try:
                self._keypair = pair = await connection.public_key_auth_requested()
                if pair is None:
                    raise NotGranted("there is no key for it")
                parts = boolean(True), string(pair.algorithm), string(pair.public_data)
                await self.send_request(*parts, key=pair, trivial=False)
                connection.ask_for_first()
            except ValueError as error:
                raise NotGranted(f"the key cannot sign: {error}") from error
            finally:
                connection.early._is_corked = False
                connection.early.flush(connection)

    return SignedRequest


async def _do_nothing() -> None:
    """Begin a key exchange that has begun."""


def _take_note(future: "asyncio.Future[Any]") -> None:
    """Look at the error of a future that may be awaited by nobody: asyncio would print it."""
    if not future.cancelled():
        future.exception()

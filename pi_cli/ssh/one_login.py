"""One login, to a pod or to one of its jump hosts: its attempts, its clock, the keys, and what the server says."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.safe import safe_line
from pi_cli.ssh import algorithms, early_plan, head_start, keys, login_failures, transport
from pi_cli.ssh.early import Early
from pi_cli.ssh.early_facts import Server
from pi_cli.ssh.first import First
from pi_cli.ssh.keys import KeyOffer, Keys
from pi_cli.ssh.login_failures import CONFIRMATION_TIMEOUT, DISCONNECTED, LOGIN_TIMEOUT, SSH_BANNER
from pi_cli.ssh.passphrases import keyring
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.server_words import URL, ServerWords
from pi_cli.ssh.speaker import speaker
from pi_cli.ssh.ssh_config import Destination
from pi_cli.ssh.transport import NoBanner, Transport
from pi_cli.ssh.trust import Trust
from pi_cli.store import debug

BOOT_TIMEOUT = 120.0  # seconds to wait for a machine that lets no users in yet
BOOT_PAUSE = 3.0  # seconds between two attempts in that time
PROXY_INTERVAL = 0.5  # seconds between two looks at what a `ProxyCommand` has printed
KEEPALIVE_INTERVAL = 7.0  # seconds; a connection with three unanswered keepalives is dead, after 28 s in all
LOGIN_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds until the next attempt when sshd drops logins (MaxStartups)
GREETING_LENGTH = 4096  # characters; before the SSH banner a server may send lines of text (RFC 4253, 4.2)
QUICK_ACK_READS = 50  # more reads than a login and the first commands need


class NotEarly(Exception):
    """No other login than an early one was wanted, and server or key are not for that. No command has run."""


@dataclass(slots=True)
class Login:
    """One login, to a pod or to one of its jump hosts; `hint` is for errors of the network."""

    pod: str
    ssh: str
    destination: Destination
    trust: Trust
    via: asyncssh.SSHClientConnection | None
    connect_timeout: float
    is_pod: bool
    hint: str | None
    missing_keys: list[str]
    transport: Transport | None = None
    greeting: str = ""
    tried: list[KeyOffer] = field(default_factory=list)
    keys: Keys = field(default_factory=Keys)
    timeout: asyncio.Timeout | None = None
    connection: asyncssh.SSHClientConnection | None = None
    words: ServerWords = field(init=False)
    seconds: float = LOGIN_TIMEOUT  # that the login may take
    keepalive: float = KEEPALIVE_INTERVAL  # seconds
    is_out_of_keys: bool = False
    also_asked: list[str] = field(default_factory=list)
    """What the server asks for after it has accepted a key."""
    has_asked: bool = False
    """Whether the server has asked a person something, or a key has."""
    first: Callable[[], First | None] = lambda: None
    """Returns what is run first on this machine; it travels with the login, if that can be."""
    begun: tuple[First, asyncssh.SSHClientProcess[bytes]] | None = None
    """That command, if it has travelled."""
    early: Early | None = None
    was_refused: bool = False
    """Whether the server has answered an early login otherwise; `was_lost`: it has not answered at all."""
    was_lost: bool = False
    early_only: bool = False
    """Whether there is to be no other login than an early one."""

    def __post_init__(self) -> None:
        self.words = ServerWords(self.pod if self.is_pod else f"{self.pod}: {self.machine}")

    @property
    def machine(self) -> str:
        return str(self.destination) if self.is_pod else f"jump host {self.destination}"

    async def connect(self, stack: AsyncExitStack) -> asyncssh.SSHClientConnection:
        """Log in; show what the server says if it takes long or fails."""
        try:
            with login_failures.raised(self):
                return await self._connect(stack)
        except PiError:
            if banner := SSH_BANNER.search(self.greeting):
                self.words.precede(self.greeting[: banner.start()])
            self.words.show(has_failed=True)
            raise
        finally:
            self.words.silence()

    async def _connect(self, stack: AsyncExitStack) -> asyncssh.SSHClientConnection:
        """Try again when sshd closes the connection, as it does while it handles many logins or boots."""
        known = early_plan.known_server(self)
        if known and (connection := await self._early_attempt(stack, known)):
            return connection
        if self.early_only:
            raise NotEarly
        pauses = iter(LOGIN_PAUSES)
        while True:
            try:
                return await self._attempt(stack)
            except asyncssh.PermissionDenied:
                if not self.words.says_not_yet:
                    raise
            except DISCONNECTED:
                pause = next(pauses, None)
                if not self.words.is_not_yet:
                    if pause is None or self.words.last_word or self.words.url:
                        raise
                    debug.note(f"{self.pod}: {self.machine} dropped the login; trying again")
                    await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - other clients wait too
                    continue
            return await self._connect_once_booted(stack)

    async def _early_attempt(self, stack: AsyncExitStack, known: Server) -> asyncssh.SSHClientConnection | None:
        """Ask for everything at once; None if the server has answered otherwise, and an ordinary login has to follow.

        What the user sees of a login that fails is always the error of the ordinary one. Errors of the host key, and of
        what comes before the server's first word, are the same for both.
        """
        try:
            return await self._attempt(stack, known)
        except (asyncssh.HostKeyNotVerifiable, asyncssh.ChannelOpenError):
            raise
        except TimeoutError as error:
            early_plan.failed(self, known, error)
            self._require_not_run(error)
            raise
        except (OSError, asyncssh.Error) as error:
            early_plan.failed(self, known, error)
            self._require_not_run(error)
            debug.note(f"{self.pod}: {self.machine} did not grant an early login ({error}); logging in step by step")
            return None

    def _require_not_run(self, error: Exception) -> None:
        """Raise `PodUnreachable` if a command that pi may not repeat was sent, and has perhaps run."""
        if self.early_only and self.early and self.early.may_have_run(error):
            raise PodUnreachable(
                self.pod,
                "the connection was lost before it answered; the command may have run",
                hint="see on the pod whether it has before you repeat it",
            ) from error

    async def _connect_once_booted(self, stack: AsyncExitStack) -> asyncssh.SSHClientConnection:
        """Try again until users may log in: a machine that has just been rented answers before that."""
        self.words.show()
        speaker.get().note(
            f"{self.words.who}: waiting for up to {BOOT_TIMEOUT:.0f} s until it lets users log in (Ctrl+C stops pi)"
        )
        clock = asyncio.get_running_loop().time
        deadline = clock() + BOOT_TIMEOUT
        while True:
            await asyncio.sleep(BOOT_PAUSE)
            try:
                return await self._attempt(stack)
            except (asyncssh.PermissionDenied, NoBanner, *DISCONNECTED):
                if clock() > deadline:
                    raise

    async def _attempt(self, stack: AsyncExitStack, known: Server | None = None) -> asyncssh.SSHClientConnection:
        async with AsyncExitStack() as attempt:
            options = self._options()
            self._begin()
            if self.via:
                options["tunnel"] = self.via
            else:
                self.transport = await attempt.enter_async_context(
                    transport.opened(self.destination, self.connect_timeout, head_start.take(self.pod))
                )
                options["sock"] = self.transport.socket
            async with keys.available(self.destination, self._timeout_paused) as self.keys:
                self.keys.skipped += [f"`{file}`: there is no such file" for file in self.missing_keys]
                offer = early_plan.prepare(self, known, options)
                if self.early_only and not self.early:
                    raise NotEarly
                # Through a jump host, the first sign of a server at the other end is that it asks for a key.
                seconds = self.transport.seconds_left if self.transport else self.connect_timeout
                async with asyncio.timeout(seconds) as self.timeout:
                    with self._proxy_watched():
                        connection = await self._logged_in(options, attempt)
            stack.push_async_exit(attempt.pop_all())
        early_plan.remember(self, connection, offer)
        return connection

    async def _logged_in(self, options: dict[str, Any], stack: AsyncExitStack) -> asyncssh.SSHClientConnection:
        try:
            connection = await stack.enter_async_context(await asyncssh.connect(**options))
            if self.early and (process := await self.early.granted()) and self.early.sent:
                self.begun = self.early.sent, process
        except DISCONNECTED:
            if self.transport and not self.greeting:
                self.transport.raise_if_proxy_exited(self.destination)
            raise
        finally:
            if self.early:
                self.early.end()
        return connection

    def _begin(self) -> None:
        self.words.silence()
        self.words = ServerWords(self.words.who)
        self.connection, self.greeting, self.seconds = None, "", LOGIN_TIMEOUT
        self.tried, self.also_asked, self.is_out_of_keys, self.has_asked = [], [], False, False
        self.early = self.begun = None

    @contextmanager
    def _proxy_watched(self) -> Iterator[None]:
        """Watch what a `ProxyCommand` prints: some show an address at which the user logs in (`cloudflared`)."""
        loop = asyncio.get_running_loop()
        look: asyncio.TimerHandle | None = None

        def see() -> None:
            nonlocal look
            words = self.transport.proxy_words() if self.transport else None
            if words is None or self.greeting:
                return
            if URL.search(words):
                self.hear(words)
            else:
                look = loop.call_later(PROXY_INTERVAL, see)

        see()
        try:
            yield
        finally:
            if look:
                look.cancel()

    def hear(self, words: str) -> None:
        """Take what the server says; an address in it is one at which the user has to confirm the login."""
        self.words.hear(words, is_last=bool(self.tried))
        if (url := self.words.url) and not self.words.is_waiting_for:
            minutes = CONFIRMATION_TIMEOUT / 60
            self.words.is_waiting_for = (
                f"waiting for up to {minutes:.0f} min until you confirm at {url} (Ctrl+C stops pi)"
            )
            self.seconds = CONFIRMATION_TIMEOUT
            self._allow(self.seconds)

    def watch_greeting(self, connection: asyncssh.SSHClientConnection) -> None:
        """Record the server's first bytes; asyncssh drops what precedes the SSH banner.

        They are recorded as they pass. Reading the socket before asyncssh does would delay our own banner by a round
        trip, of which a login takes nine.
        """
        self.connection = connection
        if self.early and not self.early.begin(connection):
            self.early = None
        if self.transport is None:
            return
        receive, sock = connection.data_received, self.transport.socket
        reads = itertools.count(1)

        def record(data: bytes, datatype: int | None = None) -> None:
            if not self.greeting:
                self.words.silence()
                self.words.is_waiting_for, self.seconds = "", LOGIN_TIMEOUT
                self._allow(self.seconds)
            if len(self.greeting) < GREETING_LENGTH and not SSH_BANNER.search(self.greeting):
                self.greeting += data[:GREETING_LENGTH].decode("utf-8", "replace")
                self.greeting = self.greeting[:GREETING_LENGTH]
            if next(reads) < QUICK_ACK_READS:
                transport.acknowledge_at_once(sock)
            else:
                connection.data_received = receive  # type: ignore[method-assign]
            receive(data, datatype)

        connection.data_received = record  # type: ignore[method-assign]

    async def next_key(self) -> asyncssh.SSHKeyPair | None:
        """Return the next key to log in with; one whose public half is unknown is unlocked first."""
        if not self.tried:
            self._allow(self.seconds)
        while self.keys.offers:
            offer = self.keys.offers.pop(0)
            pair = offer.pair
            if pair is None and offer.file:
                with self._timeout_paused():
                    key = await keys.unlock(offer.file)
                if key is None:
                    self.keys.locked.append(offer.file)
                    continue
                [pair] = asyncssh.load_keypairs(key)
                offer = KeyOffer(offer.name, pair)
            self.tried.append(offer)
            return early_plan.timed(self, pair) if pair else None
        self.is_out_of_keys = True
        return None

    @property
    def has_accepted_a_key(self) -> bool:
        """Whether the server wants something else although keys are left, or although the last one was no failure."""
        return bool(self.tried) and not self.is_out_of_keys

    @property
    def asked_a_person(self) -> bool:
        """Whether the login needed somebody; of an agent that asks before it uses a key, only its time tells."""
        pair = self.tried[-1].pair if self.tried else None
        is_token = pair is not None and pair.algorithm.startswith((b"sk-", b"webauthn-sk-"))
        return bool(self.has_asked or self.words.url or keyring.get().unlocked) or is_token

    async def answer(self, questions: list[str]) -> list[str] | None:
        """Let the user answer questions of the server; None if there is nobody to answer."""
        self.also_asked += questions
        self.has_asked = True
        if not questions:
            return []
        self.words.show()
        with self._timeout_paused():
            answers = [
                await keyring.get().answer(f"{self.words.who} asks: {safe_line(text).strip()} ") for text in questions
            ]
        return [text for text in answers if text is not None] if None not in answers else None

    @contextmanager
    def _timeout_paused(self) -> Iterator[None]:
        self._allow(None)
        try:
            yield
        finally:
            self._allow(self.seconds)

    def _allow(self, seconds: float | None) -> None:
        """Let the login take this many seconds from now; None removes the time-out."""
        with suppress(RuntimeError):  # the login has ended already
            if self.timeout:
                self.timeout.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def _options(self) -> dict[str, Any]:
        """Return the options that make asyncssh behave like ssh, except that it forwards nothing to the pod."""
        return {
            "host": self.destination.host,
            "port": self.destination.port,
            "username": self.destination.user,
            "config": None,  # `ssh -G` has read it
            "client_factory": lambda: _Client(self),
            "client_keys": None,  # asyncssh must not search for keys: `next_key` returns them
            "public_key_auth": self.destination.option("pubkeyauthentication") not in ("false", "no"),
            "password_auth": True,  # to hear of it only
            "kbdint_auth": True,  # for a code that is asked for after a key was accepted
            "host_based_auth": False,
            "gss_host": None,
            "x509_trusted_certs": None,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "command": None,
            "request_pty": False,  # a terminal would echo and change the bytes
            "env": None,
            "send_env": None,
            "login_timeout": 0,  # `timeout` has it
            "keepalive_interval": self.keepalive,
            "keepalive_count_max": 3,
            **self.trust.options(),
            **algorithms.allowed(self.destination),
        }


class _Client(asyncssh.SSHClient):
    """The callbacks of asyncssh during a login."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._login.watch_greeting(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._login.early:
            self._login.early.closing = exc

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        del host, addr, port
        return self._login.trust.accepts(key)

    def auth_banner_received(self, msg: str, lang: str) -> None:
        del lang
        self._login.hear(msg)

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        return await self._login.next_key()

    def kbdint_auth_requested(self) -> str | None:
        return "" if self._login.has_accepted_a_key else None

    async def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        del lang
        if text := f"{name}\n{instructions}".strip():
            self._login.hear(text)
        return await self._login.answer([prompt for prompt, _ in prompts])

    def password_auth_requested(self) -> str | None:
        if self._login.has_accepted_a_key:
            self._login.also_asked.append("password")
        return None

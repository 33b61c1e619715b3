"""Log in to a pod: over its jump hosts, with the user's keys, to the machine that we know and to no other."""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from pi_cli.errors import BadUsage, PiError, PodUnreachable
from pi_cli.hints import fill
from pi_cli.ssh import host_keys, keys, ssh_command, ssh_config, transport
from pi_cli.ssh.keys import Keys, Offer
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.session import PodSession
from pi_cli.ssh.ssh_command import SshCommand
from pi_cli.ssh.ssh_config import Destination
from pi_cli.ssh.transport import Blocked, Way
from pi_cli.ssh.trust import Trust

CONNECT_TIMEOUT = 15.0  # seconds until the TCP connection and the SSH banner stand
LOGIN_TIMEOUT = 30.0  # seconds from there; while a passphrase is asked for, they do not count
KEEPALIVE = 7.0  # seconds between keepalives; with three unanswered ones, 28 s in all, a link is dead
LOGIN_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds until the next try where sshd drops logins (MaxStartups)
DROPPED = (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError)
GREETING = 255  # characters; the longest first line that SSH allows
QUICK_PIECES = 50  # of what is received: more than a login and the first commands take
MOST_NAMED = 6  # keys that an error names
TURNED_AWAY = ("Not allowed at this time", "Exceeded MaxStartups")  # sshd's words, before OpenSSH 10 and since
# What ssh begins with by itself costs asyncssh more than AES-GCM: 2.3 s of processor time for a GB, instead of 1.4.
SSH_DEFAULT_CIPHER, QUICK_CIPHERS = "chacha20-poly1305@openssh.com", "-gcm"
ALGORITHMS = {  # of ssh_config(5), and of asyncssh
    "kexalgorithms": ("kex_algs", asyncssh.kex.get_kex_algs),
    "ciphers": ("encryption_algs", asyncssh.encryption.get_encryption_algs),
    "macs": ("mac_algs", asyncssh.mac.get_mac_algs),
}


@asynccontextmanager
async def connect(
    pod: str, ssh: str, *, learn: bool = False, accept_new: bool = False, connect_timeout: float | None = None
) -> AsyncIterator[PodSession]:
    """Log in to a pod and verify that it is the machine we know.

    With `learn` (setup) the keys of a pod without one, and of its jump hosts, are trusted and remembered; with
    `accept_new` changed ones are. `connect_timeout` is the pod's own, in seconds.
    """
    command = ssh_command.parse(ssh)
    refuse_known_traps(pod, command)
    session: PodSession | None = None
    async with AsyncExitStack() as way:
        route = await ssh_config.route(command)
        via: asyncssh.SSHClientConnection | None = None
        learned: dict[str, str] = {}
        for destination in route:
            is_pod = destination is route[-1]
            timeout = _connect_timeout(command, connect_timeout, destination)
            trust = _trust(pod, ssh, destination, is_pod=is_pod, learn=learn, accept_new=accept_new)
            hint = "check the ssh command, and that the machine is running" if learn else None
            login = _Login(pod, ssh, destination, trust, via, timeout, is_pod, hint)
            via = await login.connect(way)
            key = via.get_server_host_key()
            if key and (fingerprint := trust.remember(key)):
                learned[str(destination)] = fingerprint
        assert via
        session = PodSession(pod, route[-1].host, via)
        session.learned = learned.pop(str(route[-1]), None)
        session.learned_on_the_way = learned
        yield session


def refuse_known_traps(pod: str, command: SshCommand) -> None:
    """Refuse RunPod's proxy: it offers a terminal only, no commands and no files."""
    if command.host.endswith("ssh.runpod.io"):
        raise PodUnreachable(
            pod,
            "this is RunPod's basic proxy, which runs no commands",
            hint='use the line under "SSH over exposed TCP" in the pod\'s Connect dialog: `ssh root@IP -p PORT -i KEY`',
        )


def _trust(pod: str, ssh: str, destination: Destination, *, is_pod: bool, learn: bool, accept_new: bool) -> Trust:
    name = pod if is_pod else host_keys.of_jump_host(pod, destination.known_name)
    whose = "its host key" if is_pod else f"the host key of jump host {destination}"
    return Trust(pod, name, whose, ssh, destination, learn or accept_new, accept_new)


def _connect_timeout(command: SshCommand, pods_own: float | None, destination: Destination) -> float:
    """Return the first that is said: by the environment, the ssh command, the pod's entry, the user's configuration."""
    if said := os.environ.get("PI_CONNECT_TIMEOUT"):
        try:
            seconds = float(said)
        except ValueError:
            seconds = 0
        if not 0 < seconds < float("inf"):
            raise BadUsage(f"PI_CONNECT_TIMEOUT is `{said}`, which is no number of seconds")
        return seconds
    configured = destination.one("connecttimeout")
    return command.connect_timeout or pods_own or float(configured or 0) or CONNECT_TIMEOUT


@dataclass(slots=True)
class _Login:
    """One login, to a pod or to a jump host on the way to it; `hint` is for where the network fails."""

    pod: str
    ssh: str
    destination: Destination
    trust: Trust
    via: asyncssh.SSHClientConnection | None
    connect_timeout: float
    is_pod: bool
    hint: str | None
    opened: Way | None = None
    greeting: str = ""
    tried: list[Offer] = field(default_factory=list)
    keys: Keys = field(default_factory=Keys)
    patience: asyncio.Timeout | None = None
    met: asyncssh.SSHClientConnection | None = None

    @property
    def where(self) -> str:
        return str(self.destination) if self.is_pod else f"jump host {self.destination}"

    async def connect(self, way: AsyncExitStack) -> asyncssh.SSHClientConnection:
        """Log in, and try again where sshd hangs up: so it does when many logins are under way."""
        with self._errors():
            for pause in LOGIN_PAUSES:
                with suppress(*DROPPED):
                    return await self._attempt(way)
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - others wait too
            return await self._attempt(way)

    async def _attempt(self, way: AsyncExitStack) -> asyncssh.SSHClientConnection:
        async with AsyncExitStack() as attempt:
            options = self._options()
            self.met, self.greeting = None, ""
            if self.via:
                options["tunnel"] = self.via
            else:
                self.opened = await attempt.enter_async_context(
                    transport.opened(self.destination, self.connect_timeout)
                )
                options["sock"] = self.opened.socket
            async with keys.found(self.destination, self._waiting_for_a_person) as self.keys:
                self.tried = []
                # Through a jump host there is no telling before the first key whether a server is at the other end.
                seconds = self.opened.left if self.opened else self.connect_timeout
                async with asyncio.timeout(seconds) as self.patience:
                    connection = await self._logged_in(options)
            await attempt.enter_async_context(connection)
            way.push_async_exit(attempt.pop_all())
        return connection

    async def _logged_in(self, options: dict[str, Any]) -> asyncssh.SSHClientConnection:
        try:
            return await asyncssh.connect(**options)
        except DROPPED:
            if self.opened and not self.greeting:
                self.opened.refuse_end(self.destination)
            raise

    def meet(self, connection: asyncssh.SSHClientConnection) -> None:
        """Hear the first words of a server, of which asyncssh keeps only SSH's own.

        They are listened to in passing. To look at the socket before asyncssh has it would hold our own first words
        back until then: a round trip of nine.
        """
        self.met = connection
        if self.opened is None:
            return
        receive, end = connection.data_received, self.opened.socket
        pieces = itertools.count(1)

        def hear(data: bytes, datatype: int | None = None) -> None:
            if not self.greeting:
                self._allow(LOGIN_TIMEOUT)
            if len(self.greeting) < GREETING:
                self.greeting = (self.greeting + data[:GREETING].decode("ascii", "replace"))[:GREETING]
            if next(pieces) < QUICK_PIECES:
                transport.acknowledge_at_once(end)
            else:
                connection.data_received = receive  # type: ignore[method-assign]
            receive(data, datatype)

        connection.data_received = hear  # type: ignore[method-assign]

    async def next_key(self) -> asyncssh.SSHKeyPair | None:
        """Return the next key to log in with; one that does not say what it is has to be unlocked before."""
        if not self.tried:
            self._allow(LOGIN_TIMEOUT)
        while self.keys.offers:
            offer = self.keys.offers.pop(0)
            pair = offer.pair
            if pair is None and offer.file:
                with self._waiting_for_a_person():
                    key = await keys.unlock(offer.file)
                if key is None:
                    self.keys.locked.append(offer.file)
                    continue
                [pair] = asyncssh.load_keypairs(key)
                offer = Offer(offer.name, pair)
            self.tried.append(offer)
            return pair
        return None

    @contextmanager
    def _waiting_for_a_person(self) -> Iterator[None]:
        """Stop the clock."""
        self._allow(None)
        try:
            yield
        finally:
            self._allow(LOGIN_TIMEOUT)

    def _allow(self, seconds: float | None) -> None:
        with suppress(RuntimeError):  # the login has ended meanwhile
            if self.patience:
                self.patience.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def _options(self) -> dict[str, Any]:
        """Return what asyncssh needs to behave like ssh, without what ssh would carry to a rented machine."""
        return {
            "host": self.destination.host,
            "port": self.destination.port,
            "username": self.destination.user,
            "config": None,  # `ssh -G` has read it
            "client_factory": lambda: _Client(self),
            "client_keys": None,  # nor does asyncssh look for keys: `next_key` gives them
            "public_key_auth": self.destination.one("pubkeyauthentication") not in ("false", "no"),
            "password_auth": False,
            "kbdint_auth": False,
            "host_based_auth": False,
            "gss_host": None,
            "x509_trusted_certs": None,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "command": None,
            "request_pty": False,  # a terminal would echo, and change, what goes through it
            "env": None,
            "send_env": None,
            "login_timeout": 0,  # `patience` has it
            "keepalive_interval": KEEPALIVE,
            "keepalive_count_max": 3,
            **self.trust.options(),
            **self._algorithms(),
        }

    def _algorithms(self) -> dict[str, list[str]]:
        """Return the algorithms that the user's ssh allows, as far as asyncssh has them."""
        allowed: dict[str, list[str]] = {}
        for keyword, (option, available) in ALGORITHMS.items():
            wanted = self.destination.algorithms(keyword)
            if wanted[:1] == [SSH_DEFAULT_CIPHER]:
                wanted = sorted(wanted, key=lambda name: QUICK_CIPHERS not in name)
            allowed[option] = [each for each in wanted if each.encode() in available()]
            if wanted and not allowed[option]:
                raise PiError(f"your ssh configuration cannot be used: pi knows none of its {keyword}")
        return {option: names for option, names in allowed.items() if names}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say which step of logging in failed: name, network, host key or authentication."""
        try:
            yield
        except Blocked as error:
            raise self._blocked(error) from error
        except asyncssh.HostKeyNotVerifiable as error:
            raise self.trust.error(error.reason) from error
        except asyncssh.PermissionDenied as error:
            raise self._refused("") from error
        except asyncssh.ChannelOpenError as error:
            raise self._unreachable(f"{self.where} cannot be reached from the jump host: {error.reason}") from error
        except DROPPED as error:
            raise self._dropped() from error
        except asyncssh.DisconnectError as error:
            if "too many authentication failures" in error.reason.lower():
                raise self._refused(" after so many keys") from error
            raise self._unreachable(f"{self.where}: {error.reason}") from error
        except TimeoutError as error:
            raise self._late() from error
        except (OSError, asyncssh.Error) as error:
            raise self._unreachable(f"{self.where}: {error}") from error

    def _blocked(self, reason: object) -> PodUnreachable:
        return self._unreachable(f"{'' if self.is_pod else 'jump host: '}{reason}")

    def _unreachable(self, reason: str) -> PodUnreachable:
        return PodUnreachable(self.pod, reason, hint=self.hint)

    def _late(self) -> PodUnreachable:
        if self.opened and not self.greeting:
            return self._blocked(self.opened.silence)
        if self.via and (self.met is None or self.met.get_extra_info("server_version") is None):
            return self._unreachable(f"{self.where} did not answer the jump host within {self.connect_timeout:g} s")
        return self._unreachable(f"{self.where} answers, but the login was not done within {LOGIN_TIMEOUT:.0f} s")

    def _dropped(self) -> PodUnreachable:
        said = "".join(each for each in self.greeting.partition("\n")[0].strip() if each.isprintable())
        if any(word in said for word in TURNED_AWAY):
            return PodUnreachable(
                self.pod,
                f"{self.where} takes no further logins for now (it says `{said}`)",
                hint="after many logins, or failed ones, sshd makes an address wait: try again in a minute or two",
            )
        if said and not said.startswith("SSH-"):
            return self._unreachable(f"{self.where} is no SSH server: it says `{said}`")
        return self._unreachable(f"{self.where} hung up before the login was done")

    def _refused(self, when: str) -> PodUnreachable:
        """Name the keys that were tried, and those that were not."""
        if self.keys.locked:
            file = str(self.keys.locked[0])
            hint = "load it into your ssh agent with `ssh-add {file}`, or run pi on a terminal and type it"
            return PodUnreachable(
                self.pod,
                f"{self.where} refused the login of `{self.destination.user}`{when}: `{file}` needs its passphrase",
                hint=fill(hint, file=file),
            )
        tried = [str(offer) for offer in self.tried]
        reason = f"it takes none of {_some(tried)}" if tried else "there is no key to try"
        if not tried and self.keys.offers:
            reason = "it does not ask for a key, and pi has nothing else"
        skipped = f"; not tried: {_some(self.keys.skipped)}" if self.keys.skipped else ""
        hint = fill("check that `{ssh}` logs in without a password", ssh=self.ssh)
        if when:
            hint = "name the right key: add `-i KEY -o IdentitiesOnly=yes` to the ssh command"
        return PodUnreachable(
            self.pod, f"{self.where} refused the login of `{self.destination.user}`{when}: {reason}{skipped}", hint=hint
        )


class _Client(asyncssh.SSHClient):
    """What asyncssh asks while it logs in."""

    def __init__(self, login: _Login) -> None:
        self._login = login

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._login.meet(conn)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        del host, addr, port
        return self._login.trust.accepts(key)

    async def public_key_auth_requested(self) -> asyncssh.SSHKeyPair | None:
        return await self._login.next_key()


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more

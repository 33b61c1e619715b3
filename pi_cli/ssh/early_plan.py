"""Whether the next login may be an early one (`early`), and what is remembered of it afterwards.

Only to a server whose host key is pinned and which said `OpenSSH_` last time, with the key that it accepted then, if
nobody has to be asked for it: an ordinary login asks a server whether it would accept a key before it asks a person.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pi_cli.ssh import early, early_facts, sntrup
from pi_cli.ssh.early import Early
from pi_cli.ssh.early_facts import Server
from pi_cli.ssh.login_failures import DISCONNECTED
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.store import debug

if TYPE_CHECKING:
    from pi_cli.ssh.one_login import Login

OPENSSH = "SSH-2.0-OpenSSH_"
PERSON = 0.5  # seconds; an agent that takes longer to sign has asked a person, or waits for a touch
ALGORITHMS = ("kex_algs", "encryption_algs", "mac_algs", "server_host_key_algs")
# Of these, the first message needs an answer, or takes long to make: asyncssh makes it once more.
NOT_AHEAD = ("gss-", "diffie-hellman-group-exchange", *sntrup.NAMES)


@dataclass(frozen=True, slots=True)
class Offer:
    """What pi offers in an ordinary login: key exchanges in their order, and a digest of all algorithms."""

    key_exchanges: Sequence[str]
    digest: str


def known_server(login: "Login") -> Server | None:
    """Return what is remembered of the server, if an early login may be tried."""
    if login.trust.pinned is None or login.trust.learn or login.destination.option("proxycommand"):
        return None
    known = early_facts.read(login.trust.name)
    if known is None or not known.may_be_asked or known.address != _address(login):
        return None
    if lacks := early.missing():
        debug.note(f"{login.pod}: no early login: this asyncssh lacks {lacks}, or has changed it")
        return None
    return known


def prepare(login: "Login", known: Server | None, options: dict[str, Any]) -> Offer:
    """Make the options those of an early login, if the key is there and nothing has changed; return the usual offer."""
    names = options.get("kex_algs") or [name.decode() for name in asyncssh.kex.get_default_kex_algs()]
    algorithms = [asyncssh.__version__, *(",".join(options.get(option, ())) for option in ALGORITHMS)]
    offer = Offer(names, hashlib.sha256("\n".join(algorithms).encode()).hexdigest()[:16])
    if known and known.offer == offer.digest and options["public_key_auth"]:
        offers = login.keys.offers
        key = next((each for each in offers if each.asks_nobody and each.fingerprint == known.key), None)
        if key:
            offers.remove(key)
            offers.insert(0, key)
            exchange = known.key_exchange if known.key_exchange in names else ""
            login.early = Early(replace(known, key_exchange=exchange), login.first)
            if exchange:
                options["kex_algs"] = [exchange, *(name for name in names if name != exchange)]
    return offer


def timed(login: "Login", pair: asyncssh.SSHKeyPair) -> asyncssh.SSHKeyPair:
    """Return a key that notes whether a person was asked, to judge by the time that an agent takes to sign.

    Agents do not tell which of their keys are to be confirmed.
    """
    if sign := getattr(pair, "sign_async", None):

        async def sign_and_measure(data: bytes) -> bytes:
            clock = asyncio.get_running_loop().time
            began = clock()
            signature: bytes = await sign(data)
            login.has_asked |= clock() - began > PERSON
            return signature

        pair.sign_async = sign_and_measure  # type: ignore[attr-defined]
    return pair


def remember(login: "Login", connection: asyncssh.SSHClientConnection, offer: Offer) -> None:
    """Store what a login that succeeded has shown."""
    version = str(connection.get_extra_info("server_version") or "")
    before = early_facts.read(login.trust.name)
    pair = login.tried[-1].pair if login.tried and not login.is_out_of_keys else None
    if pair is None or not version.startswith(OPENSSH) or login.destination.option("proxycommand"):
        if before:
            early_facts.remember(replace(before, key=""))  # another server, or another way to it
        return
    exchange = early.agreed_key_exchange(connection, offer.key_exchanges)
    key = login.tried[-1].fingerprint if login.tried[-1].asks_nobody and not login.has_asked else ""
    found = Server(
        login.trust.name,
        _address(login),
        version,
        offer.digest,
        "" if exchange.startswith(NOT_AHEAD) else exchange,
        key,
        pair.sig_algorithm.decode("ascii", "replace"),
    )
    if not login.early and before and found == replace(before, refused=False, lost=0):
        found = replace(before, refused=before.refused or login.was_refused, lost=before.lost + login.was_lost)
    early_facts.remember(found)


def failed(login: "Login", known: Server, error: Exception) -> None:
    """Note how an early login has failed; what follows shows whether that was because it was early.

    A login that took too long is not followed by another one, so it counts now.
    """
    if login.connection and login.connection.get_extra_info("server_version"):
        login.was_lost = isinstance(error, (*DISCONNECTED, TimeoutError))
        login.was_refused = not login.was_lost
        if isinstance(error, TimeoutError):
            early_facts.remember(replace(known, lost=known.lost + 1))


def _address(login: "Login") -> str:
    return f"{login.destination.user}@{login.destination.host}:{login.destination.port}"

"""The private network between pods: which addresses they reach each other by, and how fast."""

import asyncio
import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pi_cli.errors import BadUsage, PiError
from pi_cli.events import Note, Phase, Report
from pi_cli.hints import fill
from pi_cli.pods import agent
from pi_cli.pods.reports import Address, Link, Listening, Network, StartEvent
from pi_cli.ssh.session import PodSession

if TYPE_CHECKING:
    from agent import protocol

# The usual ranges (RFC 1918), and that of carriers and overlay networks (RFC 6598).
PRIVATE = [ipaddress.ip_network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")]
ENOUGH = 10e9  # bits per second: with less, only pipeline parallelism is of use across pods
LEAST = 1e9  # with less, each token waits for the network; RunPod's global networking has 0.1e9
TEST_SECONDS = 1.0
MAX_TEST_SECONDS = 60.0  # after which a pod stops listening by itself
MAX_TESTED = 3  # addresses of a pod
DANGER = (
    "vLLM's processes on several pods talk without encryption, port 29501 is open on all interfaces of the head, and "
    "a client that reaches these ports may run programs there"
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is reached by the others: `rate` is that of the slowest connection to it, in bits per second."""

    address: str
    interface: str
    port: int
    rate: float
    is_simulated: bool


async def find(
    sessions: Mapping[str, PodSession], *, is_insecure: bool, is_anyway: bool, spans_pods: bool, report: Report
) -> dict[str, Place]:
    """Return the address of each pod on the network between them, after a test of every connection.

    Raises `BadUsage` if a pod has no private address (unless `is_insecure`) or a connection is too slow for what is to
    run over it (unless `is_anyway`), and `PiError` if a pod does not reach another one.
    """
    for pod in sessions:
        report(Phase(pod, "testing the private network"))
    asked = await asyncio.gather(*(agent.network(session, _request("addresses")) for session in sessions.values()))
    networks = dict(zip(sessions, asked, strict=True))
    usable = {pod: _usable(pod, network, is_insecure=is_insecure) for pod, network in networks.items()}
    places = {}
    for pod, session in sessions.items():
        others = {name: other for name, other in sessions.items() if name != pod}
        address, rates = await _test(session, usable[pod], others)
        place = Place(
            address.address, address.interface, networks[pod].port, min(rates.values()), networks[pod].is_simulated
        )
        places[pod] = place
        for name, rate in rates.items():
            report(Note(pod, _said(name, place, rate)))
    _require_several({pod: place.address for pod, place in places.items()})
    slowest = min(places.values(), key=lambda place: place.rate)
    if not slowest.is_simulated and not is_anyway:
        judge(slowest.rate, spans_pods=spans_pods)
    return places


def _require_several(addresses: Mapping[str, str]) -> None:
    """Raise `BadUsage` if two of the pods are one machine."""
    first: dict[str, str] = {}
    for pod, address in addresses.items():
        if (other := first.setdefault(address, pod)) != pod:
            raise BadUsage(
                f"`{other}` and `{pod}` are one machine: both have the private address {address}",
                hint="name other pods with `--across`",
            )


def judge(rate: float, *, spans_pods: bool) -> None:
    """Raise `BadUsage` for a connection that is too slow; `spans_pods`: tensor parallelism itself goes across pods."""
    if rate < LEAST:
        raise BadUsage(
            f"the network between these pods has {speed(rate)}, which is too slow for one model over several pods",
            hint="use pods of one cluster with an interconnect, or give `--anyway`",
        )
    if rate < ENOUGH and spans_pods:
        raise BadUsage(
            f"the network between these pods has {speed(rate)}, which is too slow for tensor parallelism across pods",
            hint="give `--pipeline-parallel-size` for the number of pods, or `--anyway`",
        )


def speed(rate: float) -> str:
    """Format bits per second.

    >>> speed(23.44e9), speed(94e6)
    ('23.4 Gbit/s', '94 Mbit/s')
    """
    return f"{rate / 1e9:.1f} Gbit/s" if rate >= 1e9 else f"{rate / 1e6:.0f} Mbit/s"


def is_private(address: str) -> bool:
    return any(ipaddress.ip_address(address) in net for net in PRIVATE)


def _usable(pod: str, network: Network, *, is_insecure: bool) -> list[Address]:
    """Return the addresses that a pod may be reached by, those first that are most likely the right ones."""
    private = [each for each in network.addresses if is_private(each.address) or network.is_simulated]
    if private:
        return private[:MAX_TESTED]
    if is_insecure and network.addresses:
        return network.addresses[:MAX_TESTED]
    own = ", ".join(each.address for each in network.addresses) or "none at all"
    raise BadUsage(
        f"`{pod}` has no address in a private network (it has {own}): {DANGER}",
        hint="use pods of one cluster with a private network; if a firewall protects them, give `--insecure-network`",
    )


def _said(other: str, place: Place, rate: float) -> str:
    where = f"{place.address} ({'simulated' if place.is_simulated else place.interface})"
    is_slow = LEAST <= rate < ENOUGH and not place.is_simulated
    slow = "; enough for pipeline parallelism, not for tensor parallelism" if is_slow else ""
    return fill("`{other}` reaches it at {where} with {speed}", other=other, where=where, speed=speed(rate)) + slow


async def _test(
    session: PodSession, own: Sequence[Address], others: Mapping[str, PodSession]
) -> tuple[Address, dict[str, float]]:
    """Return the address by which all others reach a pod fastest, and the rate of each of them.

    The pod listens only while the others dial, one after the other: together, they would share its bandwidth.
    """
    nonce = secrets.token_hex(16)
    addresses = [each.address for each in own]
    ports: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    def see(event: StartEvent) -> None:
        if isinstance(event, Listening) and not ports.done():
            ports.set_result(event.ports)

    async def listen() -> None:
        error: PiError | None = None
        try:
            await agent.network(session, _request("listen", addresses, nonce=nonce, seconds=MAX_TEST_SECONDS), see)
        except PiError as failure:
            error = failure
        if not ports.done():
            ports.set_exception(error or PiError(f"pod `{session.pod}` did not listen for the test of the network"))

    listening = asyncio.create_task(listen())
    try:
        request = _request("dial", addresses, await ports, nonce=nonce, seconds=TEST_SECONDS)
        links = {name: (await agent.network(other, request)).links for name, other in others.items()}
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return fastest(session.pod, own, links)


def fastest(pod: str, own: Sequence[Address], links: Mapping[str, Sequence[Link]]) -> tuple[Address, dict[str, float]]:
    """Return the address whose slowest connection is the fastest. Raises `PiError` if none is reached by all others."""
    best: tuple[Address, dict[str, float]] | None = None
    for address in own:
        rates = {
            name: link.rate for name, tested in links.items() for link in tested if link.address == address.address
        }
        known = {name: rate for name, rate in rates.items() if rate}
        if known.keys() == links.keys() and (best is None or min(known.values()) > min(best[1].values())):
            best = address, known
    if best is None:
        failed = next(
            (name for name, tested in links.items() if not any(link.rate for link in tested)), next(iter(links))
        )
        reasons = ", ".join(f"{link.address}: {link.reason or 'reached'}" for link in links[failed])
        raise PiError(
            f"`{failed}` does not reach `{pod}` in their private network ({reasons})",
            hint="choose pods of one cluster, whose private network lets all TCP ports through",
        )
    return best


def _request(
    action: Literal["addresses", "listen", "dial"],
    addresses: Sequence[str] = (),
    ports: Sequence[int] = (),
    *,
    nonce: str = "",
    seconds: float = 0.0,
) -> "protocol.NetworkRequest":
    return {
        "action": action,
        "addresses": list(addresses),
        "ports": list(ports),
        "nonce": nonce,
        "seconds": seconds,
    }

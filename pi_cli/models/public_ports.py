"""Does a model answer at its public port from here? Asked beside other work, not waited for, and remembered.

Some providers route only some ports, and a firewall that drops packets costs a question its whole time-out, so the
answer to a command never waits for this. The challenge can be sent before the pod has answered: only its proof keys,
which come over SSH, tell whether the answer was right.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from threading import Thread

from pi_cli.errors import BadUsage, PiError
from pi_cli.models import identity, model_status
from pi_cli.models.identity import Answer, Identity
from pi_cli.store import port_verdicts, state
from pi_cli.store.port_verdicts import FRESH, Place, PortVerdict
from pi_cli.store.records import Model, Pod

RECHECK = 10.0  # seconds until a port is asked again, by a command that looks again and again
MAX_AT_ONCE = 100  # questions; a process may have 256 open files on macOS


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model answers at its public port, and how many seconds ago that was asked: 0 by this command."""

    answers: bool
    age: float = 0.0


class PublicPorts:
    """The questions that one command asks, and what was known before."""

    def __init__(self) -> None:
        self._known = {verdict.place: verdict for verdict in port_verdicts.load()}
        self._stored = dict(self._known)
        self._hosts = {verdict.pod: verdict.host for verdict in self._known.values()}
        self._questions: dict[Place, asyncio.Task[Answer | None]] = {}
        self._looked_for: dict[Place, Identity] = {}
        self._fresh: dict[Place, float] = {}  # when, by the clock of the loop
        self._slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._lookups: dict[str, asyncio.Future[list[str]]] = {}

    @asynccontextmanager
    async def asking(self, pods: Mapping[str, Pod]) -> AsyncIterator[None]:
        """Ask the ports of the recorded models of these pods while the block runs; what has no answer then is left."""
        for name, pod in pods.items():
            if pod.models and (host := self._hosts.get(name) or _address(pod)):
                for model in pod.models.values():
                    self.ask(place_of(name, host, model))
        try:
            yield
        finally:
            for place in self._looked_for:
                self._settle(place)
            for question in self._questions.values():
                question.cancel()
            await asyncio.gather(*self._questions.values(), return_exceptions=True)
            self._questions.clear()

    def ask(self, place: Place | None) -> None:
        """Send a challenge to a port, unless that is being done."""
        if place and place not in self._questions:
            self._questions[place] = asyncio.create_task(self._challenge(place))

    def verdict(self, place: Place | None, expected: Identity) -> Verdict | None:
        """Return what is known by now, without waiting; None if nothing is."""
        if place is None:
            return None
        self._looked_for[place] = expected
        self._settle(place)
        known = self._known.get(place)
        age = known.age if known else None
        if asyncio.get_running_loop().time() - self._fresh.get(place, float("-inf")) > RECHECK:
            self.ask(place)
        return None if known is None or age is None else Verdict(known.answers, 0.0 if place in self._fresh else age)

    async def answers_now(self, place: Place | None, expected: Identity) -> bool:
        """Return whether the model proves itself to a challenge of this command, and wait for that."""
        if place is None:
            return False
        self._looked_for[place] = expected
        if place not in self._fresh:
            self.ask(place)
            await asyncio.wait([self._questions[place]])
            self._settle(place)
        return self._known[place].answers

    def remember(self) -> None:
        """Store what has been found, if it is news; of models that are not on the list any more, forget it."""
        found = [self._known[place] for place in self._fresh]
        news = [verdict for verdict in found if _is_news(verdict, self._stored.get(verdict.place))]
        if not news:
            return
        try:
            pods = state.load().pods
        except PiError:
            return
        uids = {name: {model.uid for model in pod.models.values()} for name, pod in pods.items()}
        port_verdicts.remember(news, forget=lambda verdict: verdict.uid not in uids.get(verdict.pod, ()))

    async def _challenge(self, place: Place) -> Answer | None:
        if not (addresses := await asyncio.shield(self._addresses(place.host))):
            return None
        url = model_status.url(place.host, place.port)
        async with self._slots:
            return await identity.challenge_at(url, timeout=identity.PROOF_TIMEOUT, addresses=addresses)

    def _addresses(self, host: str) -> "asyncio.Future[list[str]]":
        """Look up a host once, in a thread of its own: those of asyncio are for logins, and their end is awaited."""
        if host not in self._lookups:
            self._lookups[host] = found = asyncio.get_running_loop().create_future()
            if _is_address(host):
                found.set_result([host])
            else:
                Thread(target=_look_up, args=(host, found), daemon=True).start()
        return self._lookups[host]

    def _settle(self, place: Place) -> None:
        """Judge the answer to a question, if there is one."""
        question = self._questions.get(place)
        if question and question.done():
            del self._questions[place]
            answer = question.result()
            is_proven = answer is not None and answer.proves(self._looked_for[place])
            self._known[place] = port_verdicts.found(place, answers=is_proven)
            self._fresh[place] = asyncio.get_running_loop().time()


def place_of(pod: str, host: str, model: Model) -> Place | None:
    """Return where a model could answer; None for a private one, and for one that cannot prove itself."""
    if model.is_private or model.uid is None or not model.port:
        return None
    return Place(pod, host, model.port, model.uid)


def _address(pod: Pod) -> str | None:
    """Return the host of an ssh command if it is an address: a name may mean another one in the ssh configuration."""
    from pi_cli.ssh import ssh_command

    try:
        host = ssh_command.parse(pod.ssh).host
    except BadUsage:
        return None
    return host if _is_address(host) else None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _look_up(host: str, found: "asyncio.Future[list[str]]") -> None:
    def tell(addresses: list[str]) -> None:
        if not found.done():
            found.set_result(addresses)

    addresses: list[str] = []
    with suppress(OSError, UnicodeError):
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(address[0]) for *_, address in infos))
    with suppress(RuntimeError):  # the command has ended
        found.get_loop().call_soon_threadsafe(tell, addresses)


def _is_news(new: PortVerdict, stored: PortVerdict | None) -> bool:
    return stored is None or stored.answers != new.answers or new.at - stored.at > FRESH or stored.at > new.at

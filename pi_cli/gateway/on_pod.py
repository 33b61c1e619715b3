"""A gateway on a pod: engines at private addresses, proven from that pod, and a balancer that stays when pi ends."""

import asyncio
import ipaddress
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pi_cli.errors import ModelNotStarted, PiError
from pi_cli.gateway import engine, install, replicas
from pi_cli.gateway.events import LeftOut, PodAway, Report
from pi_cli.gateway.replicas import Member, Place, Wanted
from pi_cli.hints import fill
from pi_cli.models import listing
from pi_cli.models.door import why_not
from pi_cli.pods import agent, agent_program
from pi_cli.pods.reports import GatewayEnd, RunningModel
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh import login
from pi_cli.ssh.session import PodSession
from pi_cli.store import paths, state
from pi_cli.store.keys import ApiKey
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

NAME = "gateway"
SERVES = "serves"  # in `pods.json`: the models of a gateway on a pod
DRAIN = 30.0  # seconds for the answers in progress at an engine that is about to be stopped
ROUTES = "cat /proc/net/fib_trie"  # every Linux has it, where `ip` and `hostname -I` may be missing
LOCAL = re.compile(r"\|-- ([0-9.]{7,15})\n\s{1,99}/32 host LOCAL")
MAX_HOSTS = 8
MAX_ROUTES = 1 << 20  # bytes

MayInstall = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Options:
    """How a gateway on a pod is started, or what is changed; `port` is None for the next free one."""

    pod: str
    policy: engine.Policy
    port: int | None = None
    is_public: bool = False
    action: "protocol.GatewayAction" = "start"


@dataclass(frozen=True, slots=True)
class _Candidate:
    id: str
    pod: str
    name: str
    hosts: Sequence[str]
    model: RunningModel


async def serve(
    wanted: Wanted, on: Pod, key: ApiKey, options: Options, report: Report, may_install: MayInstall
) -> GatewayEnd:
    """Start a gateway on a pod, or change which engines it uses; record it like a model.

    Raises `PiError` if no engine can be used from there, or if the balancer cannot be installed or does not start.
    """
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(_look(pod, entry, options.pod, report)) for pod, entry in wanted.pods.items()]
    found = [each for look in looks for each in look.result()]
    candidates = _allowed(found, wanted, key, report)
    if not candidates:
        raise _nothing(options.pod)
    uid = f"{NAME}-{secrets.token_hex(8)}"
    async with login.connect(options.pod, on.ssh, connect_timeout=on.connect_timeout) as session:
        end = await _start(session, _request(uid, options, candidates, key), options, may_install)
        for each in candidates:
            if reason := end.refused.get(each.id):
                report(LeftOut(each.pod, each.name, reason))
        if end.state == "nothing":
            raise _nothing(options.pod)
        if end.state == "exited":
            hint = fill("see its log with `pi logs {name} --pod {pod}`", name=NAME, pod=options.pod)
            raise ModelNotStarted(f"the balancer on `{options.pod}` ended before it answered", hint=hint)
        if options.action != "add" and (running := (await listing.alive(session)).get(NAME)):
            _record(options.pod, running.entry, key.record | {SERVES: kept(wanted)})
    return end


async def leave(on: str, pod: Pod, places: Sequence[Place]) -> None:
    """Let a gateway on a pod send nothing more to models that others can replace, and wait for answers in progress.

    Raises `PiError`, but not if it has ended meanwhile.
    """
    request = _request("", Options(on, "cache_aware", action="leave"), (), None)
    request["engines"] = [{"id": f"{of}/{name}", "hosts": [], "port": 1, "proof_keys": []} for of, name in places]
    with unless_ended():
        async with login.connect(on, pod.ssh, connect_timeout=pod.connect_timeout) as session:
            await agent.gateway(session, request)


@contextmanager
def unless_ended() -> Iterator[None]:
    """Pass over that there is no gateway on the pod any more."""
    try:
        yield
    except AgentRefused as refused:
        if refused.code != "not-there":
            raise


def kept(wanted: Wanted) -> dict[str, Any]:
    """Return what `pods.json` says about the models that a gateway serves, so that others are told of them."""
    return {
        "all": wanted.is_all,
        "names": sorted(wanted.names),
        "places": sorted(f"{pod}/{name}" for pod, name in wanted.places),
        "within": None if wanted.within is None else sorted(wanted.within),
    }


def wanted_by(gateway: Model, pods: Mapping[str, Pod]) -> Wanted | None:
    """Return the models that a gateway on a pod serves, None if it was not started from here."""
    found = gateway.extra.get(SERVES)
    if gateway.kind != "gateway" or not isinstance(found, dict):
        return None
    names, places, within = ([str(each) for each in found.get(key) or ()] for key in ("names", "places", "within"))
    pairs = frozenset((pod, name) for pod, _, name in (place.partition("/") for place in places))
    only = None if found.get("within") is None else frozenset(within)
    return Wanted({}, pairs, found.get("all") is True, frozenset(names), only).after(pods)


def words_of(wanted: Wanted) -> list[str]:
    """Return what is typed after `pi gateway` for the same models."""
    places = [f"{pod}/{name}" for pod, name in sorted(wanted.places) if name not in wanted.names]
    within = [f"--pod={pod}" for pod in sorted(wanted.within or ())]
    return [*(["--all"] if wanted.is_all else [*sorted(wanted.names), *places]), *within]


async def _start(
    session: PodSession, request: "protocol.GatewayRequest", options: Options, may_install: MayInstall
) -> GatewayEnd:
    try:
        return await agent.gateway(session, request)
    except AgentRefused as refused:
        if refused.code == "name-taken":
            hint = "let it take in what has changed with `--refresh`, or end it with `pi stop {name} --pod {pod}`"
            raise refused.with_hint(fill(hint, name=NAME, pod=options.pod)) from refused
        if refused.code == "no-port" and options.port:
            raise refused.with_hint(f"another program has the port {options.port}: leave out `--port`") from refused
        if refused.code != "not-set-up" or refused.refusal.program != engine.PACKAGE or not may_install():
            raise
    return await agent.gateway(session, {**request, "install": True})


def private_addresses(routes: str) -> list[str]:
    """Return the private IPv4 addresses of a machine, from the kernel's table of routes.

    >>> private_addresses("  |-- 10.1.2.3\\n     /32 host LOCAL\\n  |-- 127.0.0.1\\n     /32 host LOCAL\\n")
    ['10.1.2.3']
    """
    found = []
    for text in dict.fromkeys(LOCAL.findall(routes)):
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            continue
        if not (address.is_global or address.is_loopback or address.is_link_local or address.is_unspecified):
            found.append(text)
    return found[:MAX_HOSTS]


async def _look(pod: str, entry: Pod, on: str, report: Report) -> list[_Candidate]:
    """Return the models that run on a pod, with the addresses at which another pod may reach them."""
    try:
        async with login.connect(pod, entry.ssh, connect_timeout=entry.connect_timeout) as session:
            running = await listing.alive(session)
            routes = (await session.run(ROUTES)).stdout[:MAX_ROUTES].decode("ascii", "replace")
    except PiError as error:
        report(PodAway(pod, str(error)))
        return []
    hosts = ["127.0.0.1"] if pod == on else private_addresses(routes)
    return [_Candidate(f"{pod}/{name}", pod, name, hosts, model) for name, model in running.items()]


def _allowed(found: Sequence[_Candidate], wanted: Wanted, key: ApiKey, report: Report) -> list[_Candidate]:
    """Return the models that the gateway may use; report why others that were asked for are left out."""
    allowed: list[_Candidate] = []
    firsts: dict[str, Member] = {}
    for each in found:
        if not wanted.has(each.pod, each.name) or each.model.kind != "model":
            continue
        reason = why_not(each.model) or replicas.why_left_out(each.model, key, firsts.get(each.name))
        if not reason and each.model.is_private and each.hosts != ["127.0.0.1"]:
            reason = "it listens on its pod's loopback only (`--private`)"
        if reason:
            report(LeftOut(each.pod, each.name, reason))
            continue
        firsts.setdefault(each.name, Member(each.pod, each.name, "", each.model.model))
        allowed.append(each)
    return allowed


def _request(
    uid: str, options: Options, candidates: Sequence[_Candidate], key: ApiKey | None
) -> "protocol.GatewayRequest":
    return {
        "uid": uid,
        "name": NAME,
        "package": engine.PACKAGE,
        "version": engine.VERSION,
        "requirements": agent_program.compressed(install.REQUIREMENTS.read_text(encoding="utf-8")),
        "launcher": agent_program.compressed(paths.asset(engine.LAUNCHER).read_text(encoding="utf-8")),
        "options": engine.common_arguments(options.policy),
        "key": key.value if key else "",
        "control_key": secrets.token_hex(32),
        "engines": [
            {
                "id": each.id,
                "hosts": list(each.hosts),
                "port": each.model.port,
                "proof_keys": [proof.hex() for proof in each.model.proof_keys],
            }
            for each in candidates
        ],
        "port": options.port,
        "public": options.is_public,
        "install": False,
        "action": options.action,
        "seconds": DRAIN,
    }


def _record(pod: str, entry: Model, extra: Mapping[str, Any]) -> None:
    entry.extra = {**entry.extra, **extra}
    with state.edit() as current:
        current.pod(pod).models[NAME] = entry


def _nothing(pod: str) -> PiError:
    return PiError(
        f"no model can be served from `{pod}`",
        hint="start the models without `--private`, on pods with a network of their own; `pi gateway` without `--on` "
        "reaches all of them over SSH",
    )

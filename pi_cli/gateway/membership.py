"""What gateways are told when a model is started or stopped: those of this machine, and those on pods of pi's list."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

from pi_cli.errors import PiError
from pi_cli.gateway import balancer, following, on_pod
from pi_cli.gateway.events import Event, LeftOut
from pi_cli.gateway.on_pod import Options
from pi_cli.gateway.replicas import Place, Wanted
from pi_cli.hints import fill
from pi_cli.store import gateways, keys, state
from pi_cli.store.gateways import Gateway
from pi_cli.store.state import State

HEARD = 15.0  # seconds in which a gateway of this machine takes in that a model is about to be stopped, or has come
CLEANUP = 10.0  # seconds after Ctrl+C
PAUSE = 0.1  # seconds between two looks whether it has

Say = Callable[[str], None]
TOLD = "`gateway` on `{pod}` sends requests to `{name}` on `{of}` now"
NOT_TOLD = (
    "`gateway` on `{pod}` was not told about {models}: {reason}; repeat `pi gateway {words} --on {pod} --refresh`"
)


@asynccontextmanager
async def leaving(places: Collection[Place], say: Say) -> AsyncIterator[None]:
    """Have no new requests sent to these models while the block runs, once answers in progress have ended.

    Only where another replica of the name can take the requests. A gateway that cannot be told is not an obstacle.
    """
    current, leaving = state.load(), frozenset(places)
    ports = [gateway.port for gateway in gateways.running()]
    found = await asyncio.gather(*(_replaceable(port, leaving) for port in ports))
    here = {port: urls for port, urls in zip(ports, found, strict=True) if urls}
    there = [(pod, wanted) for pod, wanted in _on_pods(current) if _have_others(current, wanted, leaving)]
    if not here and not there:
        yield
        return
    models = ", ".join(fill("`{name}` on `{pod}`", name=name, pod=pod) for pod, name in sorted(leaving))
    say(f"waiting for the answers in progress at {models}, for up to {on_pod.DRAIN:.0f} s")
    with ExitStack() as stack:
        if here:
            stack.enter_context(gateways.announced(sorted(leaving)))
        try:
            async with asyncio.TaskGroup() as group:
                for port, urls in here.items():
                    group.create_task(_drained(port, urls))
                for pod, wanted in there:
                    group.create_task(_left(current, pod, wanted, leaving, say))
        except BaseException:  # nothing is stopped now: a gateway that has let go of them uses them again
            with suppress(PiError, TimeoutError):
                async with asyncio.timeout(CLEANUP):
                    await joined(leaving, say)
            raise
        yield


async def joined(places: Collection[Place], say: Say) -> None:
    """Tell the gateways on pods about models that are ready. Those of this machine see it by themselves."""
    current = state.load()
    for pod, wanted in _on_pods(current):
        new = [place for place in places if wanted.has(*place) and place[0] in current.pods]
        if new:
            await _join(current, pod, wanted, new, say)


async def _join(current: State, pod: str, wanted: Wanted, new: Sequence[Place], say: Say) -> None:
    gateway = current.pod(pod).models[on_pod.NAME]
    meant = [place for place in new if _is_the_same_model(current, wanted, place)]
    key = keys.find(gateway.key_variable)

    def report(event: Event) -> None:
        if isinstance(event, LeftOut):
            say(_not_told(pod, wanted, [(event.pod, event.name)], event.reason))

    if not meant:
        say(_not_told(pod, wanted, new, "its name stands for another model there"))
        return
    if key is None:
        say(_not_told(pod, wanted, new, f"its key in {gateway.key_variable} is not set here"))
        return
    only = Wanted({of: current.pod(of) for of, _ in meant}, frozenset(meant))
    options = Options(pod, "cache_aware", action="add")
    try:
        with on_pod.unless_ended():
            end = await on_pod.serve(only, current.pod(pod), key, options, report, lambda: False)
            for id in sorted(end.workers):
                of, _, name = id.partition("/")
                say(fill(TOLD, pod=pod, of=of, name=name))
    except PiError as error:
        say(_not_told(pod, wanted, meant, str(error)))


async def _left(current: State, pod: str, wanted: Wanted, leaving: frozenset[Place], say: Say) -> None:
    places = sorted(place for place in leaving if wanted.has(*place))
    try:
        await on_pod.leave(pod, current.pod(pod), places)
    except PiError as error:
        say(_not_told(pod, wanted, places, str(error)))


async def _drained(port: int, urls: Sequence[str]) -> None:
    """Wait until a gateway of this machine has taken in what is leaving, and its answers there are complete."""
    metrics_port = None
    with suppress(TimeoutError):
        async with asyncio.timeout(HEARD):
            while gateway := _running_at(port):
                if all(each.is_leaving for each in gateway.replicas if each.url in urls):
                    metrics_port = gateway.metrics_port
                    break
                await asyncio.sleep(PAUSE)
    if metrics_port is not None:
        await following.drained(metrics_port, urls)


async def _replaceable(port: int, leaving: frozenset[Place]) -> list[str]:
    """Return the URLs of the replicas that are leaving, as far as the balancer has another one for their name.

    One that was started just now is waited for: the balancer takes seconds to use it.
    """
    listed = {(pod, name) for pod, name, model in state.load().models() if model.kind == "model"}
    deadline = asyncio.get_running_loop().time() + HEARD
    while gateway := _running_at(port):
        known = [each for each in gateway.replicas if not each.left_out]
        gone = [each for each in known if each.is_up and (each.pod, each.name) in leaving]
        others = [each for each in known if (each.pod, each.name) not in leaving | gateways.leaving()]
        counts = await balancer.read_metrics(gateway.metrics_port)
        healthy = {url for url, worker in counts.workers.items() if worker.is_healthy} if counts else set()
        ready = {each.name for each in others if each.is_up and not each.is_leaving and each.url in healthy}
        expected = {each.name for each in others if each.is_up or (each.pod, each.name) in listed}
        is_over = asyncio.get_running_loop().time() > deadline
        if is_over or all(each.name in ready for each in gone if each.name in expected):
            return [each.url for each in gone if each.name in ready]
        await asyncio.sleep(PAUSE)
    return []


def _running_at(port: int) -> Gateway | None:
    return next((each for each in gateways.running() if each.port == port), None)


def _on_pods(current: State) -> list[tuple[str, Wanted]]:
    """Return the pods with a gateway that was started from here, and what it serves."""
    entries = [(pod, entry.models.get(on_pod.NAME)) for pod, entry in current.pods.items()]
    found = [(pod, on_pod.wanted_by(model, current.pods)) for pod, model in entries if model]
    return [(pod, wanted) for pod, wanted in found if wanted]


def _have_others(current: State, wanted: Wanted, leaving: frozenset[Place]) -> bool:
    """Return whether a model that is leaving has another replica behind the same gateway."""
    served = {(pod, name) for pod, name, model in current.models() if model.kind == "model" and wanted.has(pod, name)}
    staying = {name for _, name in served - leaving}
    return any(name in staying for _, name in served & leaving)


def _is_the_same_model(current: State, wanted: Wanted, place: Place) -> bool:
    pod, name = place
    meant = current.pod(pod).models.get(name)
    others = [model for of, called, model in current.models() if called == name and of != pod and wanted.has(of, name)]
    return meant is None or all(other.model == meant.model for other in others)


def _not_told(pod: str, wanted: Wanted, places: Sequence[Place], reason: str) -> str:
    models = ", ".join(fill("`{name}` on `{pod}`", name=name, pod=of) for of, name in places)
    return fill(NOT_TOLD, pod=pod, models=models, reason=reason, words=on_pod.words_of(wanted))

"""A gateway on this machine: its links, its manifest, its balancer, and what other commands know about it."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from pi_cli.errors import BadUsage, PiError
from pi_cli.gateway import balancer, engine
from pi_cli.gateway.balancer import Balancer
from pi_cli.gateway.engine import Settings
from pi_cli.gateway.events import BalancerEnded, Report, Serving
from pi_cli.gateway.following import FollowedPods
from pi_cli.gateway.replicas import Members, Wanted
from pi_cli.hints import fill
from pi_cli.ssh import reconnect
from pi_cli.store import files, gateways, paths
from pi_cli.store.gateways import Entry, Gateway, Replica
from pi_cli.store.keys import ApiKey

REGISTERED_PAUSE = 0.1  # seconds between two looks whether the balancer has taken in the first model


@dataclass(slots=True)
class _Board:
    """What is written down for the balancer and for other commands, whenever it changes."""

    settings: Settings
    key: ApiKey
    entry: Entry
    members: Members = field(default_factory=Members)
    is_up: bool = False
    workers: dict[str, str] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self) -> None:
        workers = self.members.workers()
        if workers != self.workers:
            self.workers = workers
            files.replace(self.settings.manifest, engine.manifest(workers))
        self.entry.write(
            Gateway(
                self.settings.port,
                os.getpid(),
                self.settings.metrics_port,
                self.is_up,
                self.key.variable,
                self.key.file,
                [
                    Replica(each.pod, each.name, each.url, each.is_up, each.context, each.left_out, each.is_leaving)
                    for each in self.members.by_place.values()
                ],
            )
        )
        self.changed.set()


async def serve(
    wanted: Wanted,
    key: ApiKey,
    python: str,
    port: int,
    policy: engine.Policy,
    report: Report,
    *,
    pauses: Sequence[float] = reconnect.PAUSES,
) -> Mapping[str, PiError]:
    """Serve models at one port until cancelled, or until all pods have failed; return the failed pods and why.

    Raises `BadUsage` if the port is taken, and `PiError` if the balancer does not run.
    """
    if reason := balancer.why_taken(port):
        raise BadUsage(
            f"port {port} of this machine cannot be used: {reason}",
            hint=fill("choose another one: `pi gateway --port {other}`", other=port + 1 if port < 65535 else 8000),
        )
    settings = Settings(port, balancer.free_port(), gateways.manifest(port), policy)
    async with AsyncExitStack() as stack:
        board = _Board(settings, key, stack.enter_context(gateways.published(port)))
        stack.callback(settings.manifest.unlink, missing_ok=True)
        board.write()
        pods = FollowedPods(wanted, key, board.members, settings.metrics_port, report, board.write, pauses=pauses)
        links = asyncio.create_task(pods.run())
        process = asyncio.create_task(_keep_balancer(python, board, report))
        try:
            await asyncio.wait([links, process], return_when=asyncio.FIRST_COMPLETED)
            if process.done():
                process.result()
            return links.result()
        finally:  # the balancer first: answers in progress need the links
            for task in (process, links):
                task.cancel()
                await asyncio.wait([task])


async def _keep_balancer(python: str, board: _Board, report: Report) -> None:
    announcing: asyncio.Task[None] | None = None
    clock = asyncio.get_running_loop().time
    ended_at: float | None = None

    def ready() -> None:
        nonlocal announcing
        board.is_up = True
        board.write()
        announcing = asyncio.create_task(_announce(board, lambda: ended_at and clock() - ended_at, report))

    def ended(how: str) -> None:
        nonlocal ended_at
        ended_at = clock()
        if announcing:
            announcing.cancel()
        board.is_up = False
        board.write()
        report(BalancerEnded(how))

    try:
        log = paths.log_dir() / f"gateway-{board.settings.port}.log"
        await Balancer(python, board.settings, board.key, log).keep_running(ready, ended)
    finally:
        if announcing:
            announcing.cancel()


async def _announce(board: _Board, outage: Callable[[], float | None], report: Report) -> None:
    """Report the URL once the balancer sends requests to a model."""
    while True:
        board.changed.clear()
        counts = await balancer.read_metrics(board.settings.metrics_port)
        if counts and any(worker.is_healthy for worker in counts.workers.values()):
            break
        if not board.workers:
            await board.changed.wait()
        await asyncio.sleep(REGISTERED_PAUSE)
    report(Serving(f"http://{engine.HOST}:{board.settings.port}/v1", outage()))

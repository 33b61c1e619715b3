"""What a running gateway does: each model and its replicas, by its file, its metrics, and the engines' counters."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from pi_cli.gateway import balancer, engine
from pi_cli.store.gateways import Gateway, Replica
from pi_cli.store.keys import ApiKey

INTERVAL = 1.0  # seconds between two looks at a counter, for a rate
TIMEOUT = 5.0  # seconds for an engine's answer
GENERATED = re.compile(r"vllm:generation_tokens_total(?:\{[^}\n]{0,300}\})? ([0-9.e+]{1,30})")


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica: `state` is `up`, `ejected` (the balancer sends it nothing after failures), `down` or `left out`.

    `requests`, `failures` and `ejections` are counted since the balancer's start; `tokens` are per second, at present.
    What is not known is None.
    """

    replica: Replica
    state: str
    requests: int | None = None
    active: int | None = None
    failures: int | None = None
    ejections: int | None = None
    tokens: float | None = None


async def look(gateway: Gateway, key: ApiKey | None) -> list[ReplicaStatus]:
    """Return the replicas of a gateway, by name and pod. Without its key, the rates are not known."""
    counts = await balancer.read_metrics(gateway.metrics_port)
    up = [each for each in gateway.replicas if each.is_up and not each.left_out]
    rates: Mapping[str, float] = {}
    if key:
        before = await _generated(up, key)
        await asyncio.sleep(INTERVAL)
        after = await _generated(up, key)
        rates = {url: max(0.0, after[url] - before[url]) / INTERVAL for url in before.keys() & after.keys()}
    found = [_status(each, counts, rates.get(each.url)) for each in gateway.replicas]
    return sorted(found, key=lambda status: (status.replica.name, status.replica.pod))


def _status(replica: Replica, counts: engine.Counts | None, tokens: float | None) -> ReplicaStatus:
    counted = counts.workers.get(replica.url) if counts else None
    if replica.left_out:
        state = "left out"
    elif not replica.is_up:
        state = "down"
    else:
        state = "ejected" if counted and counted.is_healthy is False else "up"
    if counted is None:
        return ReplicaStatus(replica, state, tokens=tokens)
    return ReplicaStatus(replica, state, counted.requests, counted.active, counted.failures, counted.ejections, tokens)


async def _generated(replicas: list[Replica], key: ApiKey) -> dict[str, float]:
    """Return the generated tokens of each engine, by URL.

    The ports are held by the gateway's pi, which runs (`store.gateways`), and lead to proven models or nowhere.
    """
    import httpx2

    from pi_cli.models import plain_http

    found: dict[str, float] = {}
    headers = {"Authorization": f"Bearer {key.value}"}
    transport = plain_http.direct()
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=TIMEOUT, headers=headers) as client:

        async def ask(replica: Replica) -> None:
            with suppress(httpx2.HTTPError, ValueError):
                text = (await client.get(f"{replica.url}/metrics")).text
                if samples := GENERATED.findall(text):
                    found[replica.url] = sum(map(float, samples))

        async with asyncio.TaskGroup() as group:
            for replica in replicas:
                group.create_task(ask(replica))
    return found

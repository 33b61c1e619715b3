"""Requests to a gateway, one or many, and what became of them."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2

from tests.conftest import KEY
from tests.until import until

BEARER = {"Authorization": f"Bearer {KEY}"}
PLAIN = {"model": "q", "messages": [{"role": "user", "content": "What is 2+2?"}]}


def ask(url: str, body: object, headers: dict[str, str] = BEARER, route: str = "/chat/completions") -> httpx2.Response:
    return httpx2.post(f"{url}{route}", json=body, headers=headers, trust_env=False, timeout=60)


@dataclass
class Load:
    """Requests in a closed loop, and what became of them: the status, or the error."""

    counts: Counter[object] = field(default_factory=Counter)
    slowest: float = 0.0

    @property
    def failed(self) -> dict[object, int]:
        return {what: count for what, count in self.counts.items() if what != 200}


@contextmanager
def load(url: str, clients: int = 3, name: str = "q") -> Iterator[Load]:
    """Ask a model again and again while the block runs."""
    body = {**PLAIN, "model": name}
    counted, end = Load(), threading.Event()

    def ask() -> None:
        with httpx2.Client(trust_env=False, timeout=60, headers=BEARER) as client:
            while not end.is_set():
                began = time.monotonic()
                try:
                    counted.counts[client.post(f"{url}/chat/completions", json=body).status_code] += 1
                except httpx2.HTTPError as error:
                    counted.counts[repr(error)] += 1
                counted.slowest = max(counted.slowest, time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: counted.counts[200] > 2 * clients)
        yield counted
        enough = counted.counts[200] + 2 * clients
        until(lambda: counted.counts[200] > enough)
    finally:
        end.set()
        for thread in threads:
            thread.join(60)

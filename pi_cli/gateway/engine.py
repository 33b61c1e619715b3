"""The balancer: `smg`, the Shepherd Model Gateway. This file is all that pi knows about it.

Its interface is a manifest of workers, a URL and a port with metrics, so that another balancer could take its place.
How each option was found: docs/gateway.md.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

PACKAGE = "smg"
VERSION = "1.13.0"  # of 2026-10; the options and the metrics are those of this version
SIZE = 121  # MB on disk, without pip
LAUNCHER = "remote/run_smg.py"
HOST = "127.0.0.1"
HEALTH_SECONDS = 2  # between two looks at a worker, and for its answer
GRACE = 10.0  # seconds for the answers in progress, once the balancer is told to end

Policy = Literal["cache_aware", "power_of_two", "round_robin"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

# Each option, and why it has to be there.
OPTIONS: tuple[tuple[str, str], ...] = (
    ("--enable-igw", "several models at one URL"),
    ("--backend vllm", "the default is another engine"),
    ("--disable-tokenizer-autoload", "it would download tokenizers from the Hub"),
    ("--discovery-provider file", "workers come and go by the manifest"),
    ("--discovery-check-interval-secs 1", "where no notice of a changed file arrives; the default is 30"),
    ("--no-remove-unhealthy-workers", "a removed one comes back 20 to 60 s late"),
    ("--worker-startup-check-interval 1", "the default lets a new worker wait for 30 s"),
    (f"--health-check-interval-secs {HEALTH_SECONDS}", "the default is 60"),
    (f"--health-check-timeout-secs {HEALTH_SECONDS}", "the default is 5"),
    ("--health-failure-threshold 2", "one slow answer of a busy engine is not its end"),
    ("--health-success-threshold 1", "an engine that answers is used again at once"),
    ("--cb-timeout-duration-secs 3", "after failures a worker is tried again; the default is 60"),
    ("--cb-success-threshold 1", "one success closes the circuit breaker"),
    (f"--shutdown-grace-period-secs {GRACE:.0f}", "for the answers in progress"),
    ("--history-backend none", "it would keep the conversations of /v1/responses"),
    ("--log-level warn", "its default log has a line for each request"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How the balancer is started; all its ports are on `host`."""

    port: int
    metrics_port: int
    manifest: Path
    policy: Policy
    host: str = HOST


@dataclass(slots=True)
class WorkerCounts:
    """What the balancer has counted for a worker; `ejections`: how often it has stopped sending requests to it."""

    is_healthy: bool | None = None
    requests: int = 0
    active: int = 0
    failures: int = 0
    ejections: int = 0


@dataclass(slots=True)
class Counts:
    """What the balancer's metrics say, by the URL of a worker."""

    workers: dict[str, WorkerCounts] = field(default_factory=dict)

    @property
    def active(self) -> int:
        """Return how many requests are in progress."""
        return sum(worker.active for worker in self.workers.values())


def arguments(settings: Settings) -> list[str]:
    """Return the arguments of the launcher; none of them is a secret."""
    where = ["--host", settings.host, "--port", str(settings.port)]
    metrics = ["--prometheus-host", HOST, "--prometheus-port", str(settings.metrics_port)]
    return [*where, *metrics, "--discovery-file", str(settings.manifest), *common_arguments(settings.policy)]


def common_arguments(policy: Policy) -> list[str]:
    """Return the arguments that are the same on every machine."""
    return ["--policy", policy, *(word for words, _ in OPTIONS for word in words.split())]


def option_names() -> list[str]:
    """Return the names of all options in use."""
    return [word for word in arguments(Settings(1, 2, Path("f"), "cache_aware")) if word.startswith("--")]


def secrets_line(api_key: str, control_key: str) -> bytes:
    """Return what the launcher reads from its stdin.

    `api_key` is the clients' and the engines' key: smg passes on the key that a client sends. `control_key` is for
    smg's own routes, through which workers can be added; without one, `api_key` would open those as well.
    """
    return json.dumps({"api_key": api_key, "control_key": control_key}).encode("ascii") + b"\n"


def manifest(workers: Mapping[str, str]) -> str:
    """Return the manifest of workers: their URLs without `/v1`, by id."""
    listed = [{"id": id, "url": url} for id, url in workers.items()]
    return json.dumps({"version": 1, "workers": listed}, indent=1) + "\n"


SAMPLE = re.compile(r'(smg_worker_\w{1,60})\{worker="([^"\n]{1,300})"([^}\n]{0,300})\} ([0-9.e+-]{1,30})')


def read_metrics(text: str) -> Counts:
    """Read what the balancer's port for metrics answers, in the text format of Prometheus.

    >>> read_metrics('smg_worker_requests_total{worker="http://a",model="q"} 6').workers["http://a"].requests
    6
    """
    counts = Counts()
    for name, worker, labels, value in _samples(text):
        each = counts.workers.setdefault(worker, WorkerCounts())
        match name:
            case "smg_worker_health":
                each.is_healthy = value > 0
            case "smg_worker_requests_total":
                each.requests += value
            case "smg_worker_requests_active":
                each.active += value
            case "smg_worker_cb_outcomes_total" if 'outcome="failure"' in labels:
                each.failures += value
            case "smg_worker_cb_transitions_total" if 'to="open"' in labels:
                each.ejections += value
    return counts


def _samples(text: str) -> Iterator[tuple[str, str, str, int]]:
    for line in text.splitlines():
        if sample := SAMPLE.fullmatch(line.strip()):
            try:
                value = float(sample[4])
            except ValueError:
                continue
            if math.isfinite(value):
                yield sample[1], sample[2], sample[3], int(value)

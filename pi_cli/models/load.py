"""The load of pods and their models: GPUs as they are now, and rates from counters of two looks."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pi_cli.errors import PiError
from pi_cli.models import model_status
from pi_cli.pods import agent
from pi_cli.pods.reports import GpuLoad, Lease, Metrics, RunningModel, Survey
from pi_cli.ssh.session import PodSession
from pi_cli.store import state
from pi_cli.store.records import Pod

KEPT = 300.0  # seconds of rates that are kept for the curve
RECENT = 60.0  # seconds over which the time to the first token is averaged: few requests begin between two looks


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """A model and its work. Tokens are per second, `kv_cache` is a share, `first_token` is in seconds.

    `curve` has the generated tokens per second of the last minutes, as (seconds ago, rate). What is not known, for
    example after the first look, is None. A `dead` model still has its record on the pod.
    """

    pod: str
    name: str
    status: str
    model: str = ""
    gpu: str = ""
    port: int = 0
    pid: int = 0
    is_foreign: bool = False
    age: float | None = None
    phase: str | None = None
    running: int | None = None
    waiting: int | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None
    kv_cache: float | None = None
    first_token: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    lease: Lease | None = None


@dataclass(frozen=True, slots=True)
class PodLoad:
    """A pod after the latest look. `error` is why it failed, `down_since` is when that began, on this machine's clock.

    `is_seen`: there was an answer or an error.
    """

    pod: str
    gpus: tuple[GpuLoad, ...] = ()
    models: tuple[ModelLoad, ...] = ()
    driver_hangs: bool = False
    error: PiError | None = None
    down_since: float | None = None
    is_seen: bool = False


@dataclass(slots=True)
class Work:
    """The counters of one launch of a model over the last minutes."""

    samples: deque[Metrics] = field(default_factory=deque)
    rates: deque[tuple[float, float]] = field(default_factory=deque)
    tokens_in: float | None = None
    tokens_out: float | None = None

    def add(self, now: Metrics) -> None:
        """Add a sample; forget the earlier ones if its counters began anew."""
        if self.samples and _began_anew(self.samples[-1], now):
            self.samples.clear()
        before = self.samples[-1] if self.samples else None
        self.tokens_in = _rate(before, now, "prompt_tokens")
        self.tokens_out = _rate(before, now, "generation_tokens")
        if self.rates and self.rates[-1][0] > now.at:  # the pod was rebooted
            self.rates.clear()
        if self.tokens_out is not None:
            self.rates.append((now.at, self.tokens_out))
        while self.rates and self.rates[0][0] < now.at - KEPT:
            self.rates.popleft()
        self.samples.append(now)
        while self.samples[0].at < now.at - RECENT:
            self.samples.popleft()

    @property
    def first_token(self) -> float | None:
        """Return the mean time to the first token of the requests of the last minute, in seconds."""
        first, last = self.samples[0], self.samples[-1]
        if None in (first.first_tokens, last.first_tokens, first.first_token_seconds, last.first_token_seconds):
            return None
        count = (last.first_tokens or 0) - (first.first_tokens or 0)
        return ((last.first_token_seconds or 0) - (first.first_token_seconds or 0)) / count if count > 0 else None

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        now = self.samples[-1].at
        return tuple((now - at, rate) for at, rate in self.rates)


class Loads:
    """The load of several pods, look by look."""

    def __init__(self, pods: Mapping[str, Pod]) -> None:
        self.pods = {name: PodLoad(name) for name in pods}
        self._recorded = pods
        self._work: dict[tuple[str, str, str | None], Work] = {}

    async def look(self, session: PodSession) -> Survey:
        """Ask a pod, in one round trip; change nothing on it."""
        pod = state.load().pods.get(session.pod, self._recorded[session.pod])
        return await agent.survey(session, model_status.known(pod.models), forget=False, live=True)

    def see(self, pod: str, survey: Survey) -> None:
        """Take in what a pod has answered."""
        launches = {(pod, model.name, model.uid) for model in survey.models}
        for gone in [key for key in self._work if key[0] == pod and key not in launches]:
            del self._work[gone]
        models = [self._load(pod, model) for model in survey.models]
        models += [ModelLoad(pod, dead.name, "dead") for dead in survey.dead if dead.was_recorded]
        self.pods[pod] = PodLoad(pod, tuple(survey.gpus), tuple(models), driver_hangs=survey.driver_hangs, is_seen=True)

    def lost(self, pod: str, error: PiError) -> None:
        """Take in that a pod did not answer: its models stay, without figures."""
        before = self.pods[pod]
        since = time.monotonic() if before.down_since is None else before.down_since
        status = model_status.status_after(error)
        models = [ModelLoad(pod, each.name, status, each.model, each.gpu) for each in before.models] or [
            ModelLoad(pod, name, status, model.model, model.gpu) for name, model in self._recorded[pod].models.items()
        ]
        self.pods[pod] = PodLoad(pod, models=tuple(models), error=error, down_since=since, is_seen=True)

    def _load(self, pod: str, model: RunningModel) -> ModelLoad:
        facts = ModelLoad(
            pod,
            model.name,
            "foreign" if model.is_foreign else model.status,
            model.model,
            model.gpu,
            model.port,
            model.pid,
            model.is_foreign,
            model.age,
            model_status.phase(model) if model.status == "starting" else None,
            lease=model.lease,
        )
        if model.metrics is None:
            return facts
        work = self._work.setdefault((pod, model.name, model.uid), Work())
        work.add(model.metrics)
        running, waiting = model.requests or (None, None)
        return replace(
            facts,
            running=running,
            waiting=waiting,
            tokens_in=work.tokens_in,
            tokens_out=work.tokens_out,
            kv_cache=model.metrics.kv_cache,
            first_token=work.first_token,
            curve=work.curve,
        )


def _began_anew(before: Metrics, now: Metrics) -> bool:
    """Return whether a counter is lower than before: vLLM was started again; or the clock is: the pod was."""
    counters = (
        (before.prompt_tokens, now.prompt_tokens),
        (before.generation_tokens, now.generation_tokens),
        (before.first_tokens, now.first_tokens),
        (before.first_token_seconds, now.first_token_seconds),
        (before.at, now.at),
    )
    return any(new is None or new < old for old, new in counters if old is not None)


def _rate(before: Metrics | None, now: Metrics, counter: str) -> float | None:
    if before is None or now.at <= before.at:
        return None
    old, new = getattr(before, counter), getattr(now, counter)
    return None if old is None or new is None else (new - old) / (now.at - before.at)

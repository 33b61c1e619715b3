"""Track a start: report the agent's events as progress events, keep the log and the times of the phases."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from pi_cli.errors import PiError
from pi_cli.events import Note, Output, Phase, Progress, Report
from pi_cli.hints import fill
from pi_cli.models.model_status import LAUNCHED, without_count
from pi_cli.planning.plan import Plan
from pi_cli.pods.reports import (
    Downloaded,
    Fetched,
    Launched,
    Logged,
    PhaseEntered,
    Placed,
    Remark,
    StartEvent,
    WarmedUp,
)
from pi_cli.store import start_times
from pi_cli.store.start_times import StartTimes

if TYPE_CHECKING:
    from agent import protocol

KEPT_LOG = 4_000_000  # characters of a start's log that are kept to find the cause of a failure
UNCHANGED_AFTER = 300.0  # seconds without a change, after which a note reports that


class StartProgress:
    """The progress of a start on `pod`, reported as it changes; `log` is vLLM's log so far."""

    def __init__(self, pod: str, report: Report, *, unchanged_after: float = UNCHANGED_AFTER) -> None:
        self.pod = pod
        self.log = ""
        self.log_path = ""
        self.was_asked = False  # for: before that, there is nothing on the pod
        self.was_launched = False
        self.has_ended = False
        self.plans = 0
        self.report = report
        self._unchanged_after = unchanged_after
        self.downloading: float | None = None  # seconds that the download took, once it has ended
        self.compiling: float | None = None  # seconds of the download in which vLLM has compiled
        self._compiling_since: float | None = None
        self._phase = ""
        self._download_began = 0.0
        self._downloaded = -1
        self._entered: list[tuple[str, float]] = []
        self._last: StartTimes | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_monitored = False

    def plan(self, plan: Plan) -> None:
        """Report the main reasons of the plan (`--dry-run` shows all), and load the times of the last such start."""
        self._last = start_times.last(plan.model, plan.kind, len(plan.gpus))
        if self.plans == 0:
            for obstacle in plan.obstacles:
                self.report(Note(self.pod, f"vLLM will probably not start: {obstacle}"))
            for reason in plan.reasons[:2]:
                self.report(Note(self.pod, reason, is_reason=True))

    def see(self, event: StartEvent) -> None:
        """Track and report an event of the agent."""
        match event:
            case Placed(port=port, gpu=gpu, log=log):
                self.log_path = log
                self._enter(f"placed on port {port}, GPU {gpu}")
            case Downloaded(done=done, total=total, by=by):
                self._download_began = self._download_began or time.monotonic()
                if done != self._downloaded:
                    self._downloaded = done
                    self._has_changed()
                self.report(Progress(self.pod, done, total, by, is_compiling=self._compiling_since is not None))
            case WarmedUp(state=state):
                self._compile(state)
            case Remark(text=text):
                self._has_changed()
                self.report(Note(self.pod, text))
            case Fetched():
                self._enter("waiting for the other pods")
            case Launched():
                self.was_launched = True
                if self._download_began:
                    self.downloading = time.monotonic() - self._download_began
                self._entered = [(LAUNCHED, 0.0)]
                self._enter(LAUNCHED)
            case PhaseEntered(text=text, at=at):
                if at is None:
                    self._entered = []  # the start began before pi followed it
                elif self._entered:
                    self._entered.append((without_count(text), at))
                self._enter(text)
            case Logged(text=text):
                self.log = (self.log + text)[-KEPT_LOG:]
                self._has_changed()
                self.report(Output(self.pod, text))

    def _compile(self, state: "protocol.WarmUpState") -> None:
        self._has_changed()
        now = time.monotonic()
        if state == "began":
            self._compiling_since = now
            return
        if self._compiling_since is not None:
            self.compiling = now - self._compiling_since
        self._compiling_since = None
        if state == "failed":
            text = "vLLM could not compile during the download; it does so when the model is there"
            self.report(Note(self.pod, text))

    def phases(self, took: float) -> dict[str, float]:
        """Return the seconds of each phase of a start that took `took` seconds; empty if its beginning was missed."""
        spans: dict[str, float] = {}
        for (name, began), (_, ended) in pairwise([*self._entered, ("", took)]):
            spans[name] = round(spans.get(name, 0.0) + ended - began, 1)
        return spans

    def remember_times(self, plan: Plan, took: float) -> None:
        """Store the times of the phases for later starts of the same model."""
        with suppress(PiError):  # the model runs, so this is not worth an error
            start_times.add(StartTimes(plan.model, plan.kind, len(plan.gpus), round(took, 1), self.phases(took)))

    def report_rollback(self) -> None:
        """Report the clean-up after Ctrl+C or a failure, unless there is nothing to clean up."""
        if self.log_path and not self.has_ended:
            self._enter("cleaning up on the pod (Ctrl+C quits now)")

    def report_cancelled(self, name: str, *, is_stopped: bool) -> None:
        """Report how the clean-up after Ctrl+C ended, unless there was nothing to clean up."""
        if not self.log_path or self.has_ended:
            return
        unsure = (
            "the pod has not confirmed that `{name}` is stopped: if `pi list --pod {pod}` shows it, stop it with "
            "`pi stop {name} --pod {pod}`"
        )
        self.report(Note(self.pod, fill("`{name}` is stopped" if is_stopped else unsure, name=name, pod=self.pod)))

    @contextmanager
    def monitored(self) -> Iterator[None]:
        """Report when nothing changes for minutes while the block runs; the start continues."""
        self._is_monitored = True
        self._has_changed()
        try:
            yield
        finally:
            self._is_monitored = False
            self._has_changed()

    def _has_changed(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._is_monitored:
            self._start_timer(self._unchanged_after)

    def _start_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._unchanged_after, self._report_unchanged, seconds)

    def _report_unchanged(self, seconds: float) -> None:
        time = f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:.1f} s"
        self.report(Note(self.pod, f"nothing has changed for {time}; still waiting (Ctrl+C stops the start)"))
        self._start_timer(seconds + self._unchanged_after)

    def _enter(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self._has_changed()
            expected = self._last.phases.get(without_count(phase)) if self._last else None
            self.report(Phase(self.pod, phase, expected))

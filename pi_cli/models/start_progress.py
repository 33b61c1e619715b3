"""Follow a start: the agent's events become progress events, the log and the times of the phases are kept."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise

from pi_cli.errors import PiError
from pi_cli.events import Note, Output, Phase, Progress, Report
from pi_cli.models.model_status import LAUNCHED
from pi_cli.planning.plan import Plan
from pi_cli.pods.reports import Downloaded, Launched, Logged, PhaseEntered, Placed, Remark, StartEvent
from pi_cli.store import start_times
from pi_cli.store.start_times import StartTimes

KEPT_LOG = 4_000_000  # characters of a start's log we keep to find the cause of a failure
QUIET = 300.0  # seconds without any change, after which that is said
COUNTED = re.compile(r" \d+/\d+$")


class Watching:
    """Reports what the agent says of a start on `pod`; `log` is vLLM's, `phases` the seconds each one took."""

    def __init__(self, pod: str, report: Report, *, quiet: float = QUIET) -> None:
        self.pod = pod
        self.log = ""
        self.log_path = ""
        self.was_launched = False
        self.has_ended = False
        self.choices = 0
        self._report = report
        self._quiet = quiet
        self._phase = ""
        self._downloaded = -1
        self._entered: list[tuple[str, float]] = []
        self._last: StartTimes | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._is_patient = True

    def plan(self, plan: Plan) -> None:
        """Say what was decided, all of which is in `--dry-run`, and how long it took the last time."""
        self._last = start_times.last(plan.model, plan.kind, len(plan.gpus))
        if self.choices == 0:
            for reason in plan.reasons[:2]:
                self._report(Note(self.pod, reason))

    def see(self, event: StartEvent) -> None:
        """Take in an event of the agent."""
        match event:
            case Placed(port=port, gpu=gpu, log=log):
                self.log_path = log
                self._enter(f"placed on port {port}, GPU {gpu}")
            case Downloaded(done=done, total=total, by=by):
                if done != self._downloaded:
                    self._downloaded = done
                    self._has_changed()
                self._report(Progress(self.pod, done, total, by))
            case Remark(text=text):
                self._has_changed()
                self._report(Note(self.pod, text))
            case Launched():
                self.was_launched = True
                self._entered = [(LAUNCHED, 0.0)]
                self._enter(LAUNCHED)
            case PhaseEntered(text=text, at=at):
                if at is None:
                    self._entered = []  # it was under way before we came
                elif self._entered:
                    self._entered.append((COUNTED.sub("", text), at))
                self._enter(text)
            case Logged(text=text):
                self.log = (self.log + text)[-KEPT_LOG:]
                self._has_changed()
                self._report(Output(self.pod, text))

    def phases(self, took: float) -> dict[str, float]:
        """Return the seconds of each phase of a start that took so long; nothing if we did not see all of it."""
        spans: dict[str, float] = {}
        for (name, began), (_, ended) in pairwise([*self._entered, ("", took)]):
            spans[name] = round(spans.get(name, 0.0) + ended - began, 1)
        return spans

    def remember_times(self, plan: Plan, took: float) -> None:
        """Keep how long the phases took, for who starts the same again."""
        with suppress(PiError):  # the model runs: that is no reason to say otherwise
            start_times.add(StartTimes(plan.model, plan.kind, len(plan.gpus), round(took, 1), self.phases(took)))

    def say_that_it_is_rolled_back(self) -> None:
        """Say what Ctrl+C does, unless there is nothing to clean up."""
        if self.log_path and not self.has_ended:
            self._enter("cancelling and cleaning up on the pod (Ctrl+C again to quit now)")

    @contextmanager
    def noticing_silence(self) -> Iterator[None]:
        """Say so when nothing changes for minutes while the block runs; it is no reason to give up."""
        self._is_patient = False
        self._has_changed()
        try:
            yield
        finally:
            self._is_patient = True
            self._has_changed()

    def _has_changed(self) -> None:
        if self._alarm:
            self._alarm.cancel()
        if not self._is_patient:
            self._alarm = asyncio.get_running_loop().call_later(self._quiet, self._say_silence, self._quiet)

    def _say_silence(self, seconds: float) -> None:
        minutes = f"{seconds / 60:.0f} minutes" if seconds >= 60 else f"{seconds:.1f} s"
        self._report(Note(self.pod, f"nothing has changed for {minutes}; still waiting (Ctrl+C stops the start)"))
        self._alarm = asyncio.get_running_loop().call_later(self._quiet, self._say_silence, seconds + self._quiet)

    def _enter(self, phase: str) -> None:
        if phase != self._phase:
            self._phase = phase
            self._has_changed()
            expected = self._last.phases.get(COUNTED.sub("", phase)) if self._last else None
            self._report(Phase(self.pod, phase, expected))

"""Follow models' logs, byte for byte, whatever becomes of the link, of the files and of the models meanwhile."""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Note, Report
from pi_cli.hints import fill
from pi_cli.pods import agent
from pi_cli.pods.reports import LogChange
from pi_cli.pods.wording import AgentRefused
from pi_cli.ssh import reconnect
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.ssh.session import PodSession
from pi_cli.store import debug
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

GIVE_UP = 600.0  # seconds in which a lost link may come back
KEPT = 1 << 17  # bytes of a log in which the cause of a death is looked for
SHUT_DOWN = re.compile(r"Application shutdown complete|Finished server process")
SERVES = re.compile(rf'{SHUT_DOWN.pattern}|"(?:GET|POST) \S+ HTTP/\S+" \d|Engine \d+: Avg ')


@dataclass(frozen=True, slots=True)
class Source:
    """A model whose log is shown."""

    pod: str
    name: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What to show: the last `lines` (None: all) since a moment that match `grep`, and with `follow` what comes.

    `since` is a moment by the pod's clock.
    """

    lines: int | None = 100
    since: "protocol.Moment | None" = None
    grep: str | None = None
    follow: bool = True


Sink = Callable[[Source, bytes], Awaitable[None] | None]
"""Takes the bytes of a log; nothing means that a file has ended, as it does for everybody who reads one."""


async def follow(
    pods: Mapping[str, Pod],
    sources: Sequence[Source],
    query: LogQuery,
    *,
    sink: Sink,
    report: Report,
    give_up: float = GIVE_UP,
) -> dict[str, PiError]:
    """Pass on logs until their models are dead; return the pods that failed, with why.

    A link that is lost is made again, and nothing is passed on twice or left out; one that never stood is an error.
    No pod disturbs another.
    """
    failures: dict[str, PiError] = {}
    readings = [_Reading(each, pods[each.pod], len(pods) > 1) for each in sources]

    async def attempt(pod: str) -> None:
        here = [each for each in readings if each.source.pod == pod]
        try:
            with debug.bugs_as_errors(f"reading the logs of `{pod}`"):
                await _Following(pod, pods[pod], here, query, sink, report).to_the_end(give_up)
        except PiError as error:
            failures[pod] = error
            if any(not each.is_done for each in readings if each.source.pod not in failures):
                report(Note(pod, f"{error}; the other logs go on"))

    async with asyncio.TaskGroup() as group:
        for pod in {each.pod: None for each in sources}:
            group.create_task(attempt(pod))
    return failures


class _Reading:
    """How far a log was passed on; `place` is where the pod's agent goes on from."""

    def __init__(self, source: Source, pod: Pod, names_pod: bool) -> None:
        self.source = source
        self.model = pod.models.get(source.name) or Model("", port=0, gpu="", pid=0)
        self.title = f"`{source.name}` on `{source.pod}`" if names_pod else f"`{source.name}`"
        self.uid = self.model.uid
        self.place: protocol.Place | None = None
        self.was_alive = True
        self.is_done = False
        self._last: deque[bytes] = deque()
        self._kept = 0

    def request(self) -> "protocol.LogSource":
        return {
            "name": self.source.name,
            "uid": self.uid,
            "pid": self.model.pid,
            "port": self.model.port,
            "gpu": self.model.gpu,
            "place": self.place,
        }

    def keep(self, data: bytes) -> None:
        self._last.append(data)
        self._kept += len(data)
        while self._kept - len(self._last[0]) > KEPT:
            self._kept -= len(self._last.popleft())

    def forget(self) -> None:
        """Keep nothing of a file that has ended: yesterday's error is no cause of today's death."""
        self._last.clear()
        self._kept = 0

    def last_words(self) -> str:
        """Say in words why the model has ended, as far as the last part of its log tells."""
        log = b"".join(self._last)[-KEPT:].decode("utf-8", "replace")
        if words := _cause(log, self.source.pod, self.model.model):
            return words
        return "it was shut down" if SHUT_DOWN.search(log) else "its log does not say why"


def _cause(log: str, pod: str, model: str) -> str | None:
    """Return the cause of a death; the line that says that the model was ready may have come long before."""
    from pi_cli.diagnosis import causes  # all that is known of failures: few logs end with one

    found = causes.find(log, pod=pod, model=model, was_serving=SERVES.search(log) is not None)
    return found.summary if found else None


@dataclass(slots=True)
class _Following:
    """The logs of one pod, over as many connections as it takes."""

    pod: str
    entry: Pod
    readings: list[_Reading]
    query: LogQuery
    sink: Sink
    report: Report

    async def to_the_end(self, give_up: float) -> None:
        again = "once the pod answers, see what the log said meanwhile with `pi logs {names} --pod {pod}`"
        reconnection = Reconnection(
            on_lost=lambda _: self._say(f"the link to `{self.pod}` is lost; trying to get it back"),
            on_back=lambda: self._say(f"the link to `{self.pod}` is back"),
            give_up_after=give_up,
            give_up_hint=fill(again, names=[each.source.name for each in self.readings], pod=self.pod),
        )
        await reconnect.keep_connected(
            self.pod, self.entry, lambda session: self._read(session, reconnection), reconnection
        )

    async def _read(self, session: PodSession, reconnection: Reconnection) -> None:
        """Read what is not done yet, until it is."""
        opened = [each for each in self.readings if not each.is_done]

        def take(source: int, offset: int, piece: bytes | LogChange) -> Awaitable[None] | None:
            reconnection.connected()
            if isinstance(piece, bytes):
                reconnection.progressed()
            return self._take(opened[source], offset, piece)

        request: protocol.LogsRequest = {
            "sources": [each.request() for each in opened],
            "lines": self.query.lines,
            "since": self.query.since,
            "grep": self.query.grep,
            "follow": self.query.follow,
        }
        try:
            await agent.logs(session, request, take)
        except AgentRefused as error:
            raise error.with_hint(fill("see what runs with `pi list --pod {pod}`", pod=self.pod)) from error
        if not all(each.is_done for each in opened):
            raise PodUnreachable(self.pod, "the log reader on the pod was killed")

    def _take(self, reading: _Reading, offset: int, piece: bytes | LogChange) -> Awaitable[None] | None:
        if isinstance(piece, LogChange):
            reading.place, reading.uid = piece.place, piece.uid
            return self._see(reading, piece)
        if reading.place:
            reading.place["offset"] = offset
        reading.keep(piece)
        return self.sink(reading.source, piece) if piece else None

    def _see(self, reading: _Reading, change: LogChange) -> Awaitable[None] | None:
        is_end = change.event in ("rotated", "truncated", "lost", "ended")
        waiting = self.sink(reading.source, b"") if is_end else None
        match change.event:
            case "begins" if change.is_new:
                reading.was_alive = change.is_alive
                if change.is_alive and not change.exists:
                    self._say(f"{reading.title} has no log yet; waiting for it")
            case "restarted":
                self._say(f"{reading.title} was started again; its new log follows")
            case "lost":
                self._say(f"the log of {reading.title} was replaced meanwhile; what it said last is lost")
            case "ended":
                reading.is_done = True
                self._say_end(reading)
        if is_end:
            reading.forget()
        return waiting

    def _say_end(self, reading: _Reading) -> None:
        if not self.query.follow:
            return
        if reading.was_alive:
            self._say(f"{reading.title} has ended: {reading.last_words()}")
        else:
            self._say(f"{reading.title} does not run; this is its last log")

    def _say(self, text: str) -> None:
        self.report(Note(self.pod, text))

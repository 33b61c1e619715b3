"""Follow models' logs without losing a byte, through lost connections, rotated files and restarted models."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.events import Note, Report
from pi_cli.hints import fill
from pi_cli.hold import connecting
from pi_cli.lazy_dataclasses import dataclass
from pi_cli.pods import agent
from pi_cli.pods.reports import LogChange
from pi_cli.pods.wording import AgentRefused, Refusal
from pi_cli.ssh import reconnect
from pi_cli.ssh.reconnect import Reconnection
from pi_cli.store import debug, state, unknown
from pi_cli.store.records import Model, Pod

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.ssh.session import PodSession

GIVE_UP_AFTER = 600.0  # seconds without a connection
KEPT_BYTES = 1 << 17  # from the end of a log, in which the reason for an exit is searched
SHUT_DOWN = re.compile(r"Application shutdown complete|Finished server process")
SERVES = re.compile(rf'{SHUT_DOWN.pattern}|"(?:GET|POST) \S+ HTTP/\S+" \d|Engine \d+: Avg ')


@dataclass(frozen=True, slots=True)
class Source:
    """A model whose log is shown."""

    pod: str
    name: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines to show: the last `lines` (None: all) since a moment that match `grep`; with `follow`, also new ones.

    `since` is by the pod's clock. Without `looks`, the requests with which pi itself looks at a model are left out.
    """

    lines: int | None = 100
    since: protocol.Moment | None = None
    grep: str | None = None
    follow: bool = True
    looks: bool = False


LogSink = Callable[[Source, bytes], Awaitable[None] | None]
"""Takes the bytes of a log; no bytes mean the end of a file, as for `read`."""


async def follow(
    pods: Mapping[str, Pod],
    sources: Sequence[Source],
    query: LogQuery,
    *,
    sink: LogSink,
    report: Report,
    give_up: float = GIVE_UP_AFTER,
) -> dict[str, PiError]:
    """Pass on logs until their models have exited; return the pods that failed with their errors.

    After a lost connection, reconnect without repeating or losing a byte; a connection that fails at first is an error.
    The failure of one pod does not affect the others.
    """
    failures: dict[str, PiError] = {}
    logs = [_FollowedLog(source, pods[source.pod], len(pods) > 1) for source in sources]

    async def attempt(pod: str) -> None:
        of_pod = [log for log in logs if log.source.pod == pod]
        try:
            with debug.bugs_as_errors(f"reading the logs of `{pod}`"):
                await _PodLogs(pod, pods[pod], of_pod, query, sink, report).follow(give_up)
        except PiError as error:
            failures[pod] = error
            if any(not log.is_done for log in logs if log.source.pod not in failures):
                report(Note(pod, f"{error}; still following the other logs"))

    async with asyncio.TaskGroup() as group:
        for pod in {source.pod: None for source in sources}:
            group.create_task(attempt(pod))
    return failures


class LogEnd:
    """The last bytes of a log that arrives in pieces; a pod may send gigabytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pieces: deque[bytes] = deque()
        self._held = 0

    def keep(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        while self._held - len(self._pieces[0]) > self._size:
            self._held -= len(self._pieces.popleft())

    def forget(self) -> None:
        self._pieces.clear()
        self._held = 0

    def text(self) -> str:
        return b"".join(self._pieces)[-self._size :].decode("utf-8", "replace")


def source_of(
    name: str, model: Model, *, uid: str | None, position: protocol.LogPosition | None = None
) -> protocol.LogSource:
    """Return a log for a request: that of the model with this uid, from a position or from its begin."""
    return {
        "name": name,
        "uid": uid,
        "pid": model.pid,
        "port": model.port,
        "gpu": model.gpu,
        "position": position,
    }


class _FollowedLog:
    """A log and how far it was passed on; the pod's agent continues at `position`."""

    def __init__(self, source: Source, pod: Pod, names_pod: bool) -> None:
        self.source = source
        self.model = pod.models.get(source.name) or Model("", port=0, gpu="", pid=0)
        self.title = f"`{source.name}` on `{source.pod}`" if names_pod else f"`{source.name}`"
        self.uid = self.model.uid
        self.position: protocol.LogPosition | None = None
        self.was_alive = True
        self.is_done = False
        self.end = LogEnd(KEPT_BYTES)

    def request(self) -> protocol.LogSource:
        return source_of(self.source.name, self.model, uid=self.uid, position=self.position)

    def why_exited(self) -> str:
        """Return why the model exited, according to the end of its log."""
        log = self.end.text()
        if cause := _cause(log, self.source.pod, self.model.model):
            return cause
        return "it was shut down" if SHUT_DOWN.search(log) else "its log does not show why"


def _cause(log: str, pod: str, model: str) -> str | None:
    """Return the cause of a death; the line that says that the model is ready may be missing, being much older."""
    from pi_cli.diagnosis import causes  # the table of causes takes long to load, and few logs end with an error

    cause = causes.find(log, pod=pod, model=model, was_serving=SERVES.search(log) is not None)
    return cause.summary if cause else None


@dataclass(slots=True)
class _PodLogs:
    """The followed logs of one pod, over all its connections."""

    pod: str
    entry: Pod
    logs: list[_FollowedLog]
    query: LogQuery
    sink: LogSink
    report: Report

    async def follow(self, give_up: float) -> None:
        hint = "once the pod answers, show what was logged in the meantime with `pi logs {names} --pod {pod}`"
        reconnection = Reconnection(
            on_lost=lambda _: self._note(f"the connection to `{self.pod}` was lost; reconnecting"),
            on_back=lambda: self._note(f"reconnected to `{self.pod}`"),
            give_up_after=give_up,
            give_up_hint=fill(hint, names=[log.source.name for log in self.logs], pod=self.pod),
        )
        await reconnect.keep_connected(
            self.pod,
            self.entry,
            lambda session: self._read(session, reconnection),
            reconnection,
            connect=connecting.connect,
        )

    async def _read(self, session: PodSession, reconnection: Reconnection) -> None:
        """Read the logs that are not complete yet to their ends."""
        opened = [log for log in self.logs if not log.is_done]

        def take(source: int, offset: int, part: bytes | LogChange) -> Awaitable[None] | None:
            reconnection.connected()
            if isinstance(part, bytes):
                reconnection.progressed()
            return self._take(opened[source], offset, part)

        request: protocol.LogsRequest = {
            "sources": [log.request() for log in opened],
            "lines": self.query.lines,
            "since": self.query.since,
            "grep": self.query.grep,
            "follow": self.query.follow,
            "looks": self.query.looks,
        }
        try:
            await agent.logs(session, request, take)
        except AgentRefused as error:
            if unlisted := self._without_a_log(error.refusal):
                raise unknown.model(state.load(), [unlisted], self.pod) from error
            raise error.with_hint(fill("see what runs with `pi list --pod {pod}`", pod=self.pod)) from error
        if not all(log.is_done for log in opened):
            raise PodUnreachable(self.pod, "the log reader on the pod was killed")

    def _without_a_log(self, refusal: Refusal) -> str | None:
        """Return the model that has no log, if pi's list does not have it either: its name is probably misspelt."""
        if refusal.code != "no-log" or refusal.reason:
            return None
        file = refusal.path.rpartition("/")[2]
        names = (log.source.name for log in self.logs if log.source.name not in self.entry.models)
        return next((name for name in names if file == f"{name}.log"), None)

    def _take(self, log: _FollowedLog, offset: int, part: bytes | LogChange) -> Awaitable[None] | None:
        if isinstance(part, LogChange):
            log.position, log.uid = part.position, part.uid
            return self._change(log, part)
        if log.position:
            log.position["offset"] = offset
        log.end.keep(part)
        return self.sink(log.source, part) if part else None

    def _change(self, log: _FollowedLog, change: LogChange) -> Awaitable[None] | None:
        is_end = change.event in ("rotated", "truncated", "lost", "ended")
        waiting = self.sink(log.source, b"") if is_end else None
        match change.event:
            case "begins" if change.is_new:
                log.was_alive = change.is_alive
                if change.is_alive and not change.exists:
                    self._note(f"{log.title} has no log yet; waiting for it")
            case "restarted":
                self._note(f"{log.title} was restarted; its new log follows")
            case "lost":
                self._note(f"the log of {log.title} was replaced during the outage; its last lines are lost")
            case "too-slow":
                hint = "make it simpler, or filter here with `pi logs {name} | grep PATTERN`"
                raise PiError(
                    f"the pattern takes too long for a line of the log of {log.title}",
                    hint=fill(hint, name=log.source.name),
                )
            case "ended":
                log.is_done = True
                self._note_end(log)
        if is_end:
            log.end.forget()  # an error in an old file does not explain a later exit
        return waiting

    def _note_end(self, log: _FollowedLog) -> None:
        if not self.query.follow:
            return
        if log.was_alive:
            self._note(f"{log.title} has exited: {log.why_exited()}")
        else:
            self._note(f"{log.title} is not running; this is its last log")

    def _note(self, text: str) -> None:
        self.report(Note(self.pod, text))

"""Ask `remote/agent` to do something on a pod: one request, events while it works, one result."""

import json
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from pi_cli.errors import PiError
from pi_cli.pods import agent_program, shell
from pi_cli.ssh.session import Completed, PodSession

MARK = b"\x1epi "
HEADER = struct.Struct("!BHIQ")  # of a frame: kind, number of the source, bytes of payload, offset after it
POUR_PATIENCE = 0.2  # seconds for what pours to see that we go


Sink = Callable[[dict[str, Any]], None]


class AgentRefused(PiError):
    """The pod said no; `code` is one of those in `remote/`, and `facts` are what it tells besides."""

    def __init__(self, code: str, message: str, *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.facts = facts


async def ask(session: PodSession, operation: str, on_event: Sink = lambda _: None, **request: Any) -> Any:
    """Run an operation to its result, telling `on_event` what happens meanwhile.

    Raises `AgentRefused` when the pod says no, `PodUnreachable` when the link is lost, `PiError` when no agent runs.
    """
    answers: list[dict[str, Any]] = []

    def sort(message: dict[str, Any]) -> None:
        if "event" in message:
            on_event(message)
        else:
            answers.append(message)

    reader = _Lines(sort)
    done = await session.stream(shell.AGENT, reader.feed, input=_payload(operation, request))
    return _result(session.pod, answers, done, reader.noise)


class Frame(NamedTuple):
    """A piece of a stream of bytes from the pod, or an event in it; `offset` is where the stream stands after it."""

    is_event: bool
    source: int
    offset: int
    payload: bytes


async def pour(
    session: PodSession, operation: str, sink: Callable[[Frame], Awaitable[None] | None], **request: Any
) -> None:
    """Run an operation whose result is followed by frames (see `remote/agent/logs.py`), and pass those on, each whole.

    What `sink` returns is waited for. Nothing on the pod has to be cleaned up when we go. Raises as `ask` does.
    """
    answers: list[dict[str, Any]] = []
    lines, frames = _Lines(answers.append), _Frames()

    async def receive(chunk: bytes) -> None:
        if not answers:
            lines.feed(chunk)
            chunk = lines.take_rest() if answers else b""
        for frame in frames.feed(chunk):
            if waiting := sink(frame):
                await waiting

    done = await session.stream(shell.AGENT, receive, input=_payload(operation, request), patience=POUR_PATIENCE)
    _result(session.pod, answers, done, lines.noise)
    if done.status > 0:
        raise _no_answer(session.pod, done, lines.noise)


def _result(pod: str, answers: list[dict[str, Any]], done: Completed, noise: bytes) -> Any:
    if not answers:
        raise _no_answer(pod, done, noise)
    if error := answers[-1].get("error"):
        raise AgentRefused(**error)
    return answers[-1]["result"]


class _Lines:
    """Find marked lines in chunks; what login shells print between them is kept as `noise` for error messages."""

    def __init__(self, sink: Sink) -> None:
        self.noise = b""
        self._sink = sink
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for index, line in enumerate(lines):
            before, mark, message = line.partition(MARK)
            self.noise = (self.noise + before)[-4096:]
            if mark:
                answer = json.loads(message)
                self._sink(answer)
                if "result" in answer:
                    self._rest = b"\n".join([*lines[index + 1 :], self._rest])
                    return

    def take_rest(self) -> bytes:
        """Return the raw bytes that came behind the result."""
        rest, self._rest = self._rest, b""
        return rest


class _Frames:
    """Put frames together that come in pieces."""

    def __init__(self) -> None:
        self._header = b""
        self._pieces: list[memoryview] = []
        self._missing = 0  # bytes of the payload, once the header is complete

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take in the next piece and yield the frames that are complete by now."""
        rest = memoryview(chunk)
        while rest:
            if missing := HEADER.size - len(self._header):
                self._header += rest[:missing]
                rest = rest[missing:]
                if len(self._header) < HEADER.size:
                    return
                self._missing = HEADER.unpack(self._header)[2]
            piece, rest = rest[: self._missing], rest[self._missing :]
            self._pieces.append(piece)
            self._missing -= len(piece)
            if not self._missing:
                kind, source, _, offset = HEADER.unpack(self._header)
                yield Frame(bool(kind), source, offset, b"".join(self._pieces))
                self._header, self._pieces = b"", []


def _payload(operation: str, request: dict[str, Any]) -> bytes:
    line = json.dumps({"operation": operation} | request).encode()
    program = agent_program.packed(operation)
    return b"%d\n%s%s\n" % (len(program), program, line)


def _no_answer(pod: str, done: Completed, noise: bytes) -> PiError:
    if done.status == 127:
        return PiError(f"pod `{pod}` has no python3", hint=f'prepare it with `pi pods setup {pod} "ssh …"`')
    said = (done.stderr or noise).decode("utf-8", "replace").strip().splitlines()
    return PiError(f"pod `{pod}` did not answer (exit code {done.status}): {said[-1] if said else 'it said nothing'}")

"""Talk to the agent on a pod: one request, events while it works, one answer. All that comes in is bounded."""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pi_cli.errors import PiError, PodUnreachable
from pi_cli.hints import fill
from pi_cli.pods import agent_program, shell
from pi_cli.safe import safe
from pi_cli.ssh.session import LET_GO_TIMEOUT, Completed, PodSession
from pi_cli.store import debug

if TYPE_CHECKING:
    from agent import protocol

VERSION: "protocol.Version" = 1
MARK: "protocol.Mark" = "\x1epi "
FRAME_HEADER: "protocol.FrameHeader" = "!BHIQ"
DATA: "protocol.FrameKind" = 0
EVENT: "protocol.FrameKind" = 1
BEAT: "protocol.FrameKind" = 2
MOST_LINE: "protocol.MostLine" = 4194304
MOST_NOISE: "protocol.MostNoise" = 1048576
MOST_PAYLOAD: "protocol.MostPayload" = 2097152

BEATS = 6  # that may be missed before the agent counts as hanging
KEPT_NOISE = 4096  # bytes of what login shells print, for error messages
SHOWN_ANSWER = 2000  # bytes of an answer in the notes for debugging
POUR_PATIENCE = 0.2  # seconds for the agent to see that we leave

HEADER = struct.Struct(FRAME_HEADER)
MARK_BYTES = MARK.encode()

OnMessage = Callable[[dict[str, Any]], None]


class NotUnderstood(PiError):
    """A pod sent what its agent never sends. Nothing was believed, and nothing recorded."""

    def __init__(self, pod: str, what: object) -> None:
        super().__init__(
            f"pod `{pod}` gave an answer that pi does not understand: {what}",
            hint=fill("see what runs there with `pi ssh {pod}`; setting it up again may help", pod=pod),
        )


class PodHangs(PodUnreachable):
    """The pod lets us in, and its agent falls silent."""

    may_be_gone = False

    def __init__(self, pod: str, seconds: float) -> None:
        super().__init__(
            pod,
            f"it answers SSH, but its python3 hangs (no sign of life for {seconds:.0f} s)",
            hint=fill(
                "see why with `pi ssh {pod}`: a network share that does not answer, or a process stuck in the driver; "
                "restarting the machine ends both",
                pod=pod,
            ),
        )


async def ask(
    session: PodSession, operation: "protocol.Operation", request: "protocol.Request", on_event: OnMessage
) -> dict[str, Any]:
    """Run an operation to its end and return the answer, passing on the events before it.

    Raises `PodUnreachable` when the link is lost, `PodHangs` when nothing comes for `session.silence` seconds,
    `NotUnderstood`, and `PiError` when there is no agent.
    """
    answers: list[dict[str, Any]] = []
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(session.silence) as patience:

            def sort(message: dict[str, Any]) -> None:
                is_event = "event" in message
                patience.reschedule(clock() + (session.silence if is_event else LET_GO_TIMEOUT))
                if not is_event:
                    answers.append(message)
                elif message["event"] != "beat":
                    on_event(message)

            lines = Lines(session.pod, sort)
            done = await session.stream(shell.AGENT, lines.feed, input=_payload(session, operation, request))
    except TimeoutError as error:
        if not patience.expired():
            raise
        if not answers:
            raise PodHangs(session.pod, session.silence) from error
        return answers[0]  # which is all that there is to come, though the agent has not ended
    if not answers:
        _refuse_silence(session.pod, done, lines.noise)
    return answers[0]


class Frame(NamedTuple):
    """A piece of a stream of bytes from the pod, or an event in it; `offset` is where the stream stands after it."""

    is_event: bool
    source: int
    offset: int
    payload: bytes


OnFrame = Callable[[Frame], Awaitable[None] | None]


async def pour(
    session: PodSession,
    operation: "protocol.Operation",
    request: "protocol.Request",
    on_answer: OnMessage,
    on_frame: OnFrame,
    *,
    sources: int,
) -> None:
    """Run an operation whose answer is followed by frames of so many sources; pass both on, each whole.

    What `on_frame` returns is waited for. Nothing on the pod has to be cleaned up when we leave. Raises as `ask` does.
    """
    answers: list[dict[str, Any]] = []
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(session.silence) as patience:

            def sort(message: dict[str, Any]) -> None:
                if "event" not in message:
                    answers.append(message)
                    on_answer(message)

            lines, frames = Lines(session.pod, sort), Frames(session.pod, sources)

            async def receive(chunk: bytes) -> None:
                patience.reschedule(None)  # a reader of ours may be slow
                if not answers:
                    lines.feed(chunk)
                    chunk = lines.take_rest() if answers else b""
                for frame in frames.feed(chunk):
                    if waiting := on_frame(frame):
                        await waiting
                patience.reschedule(clock() + session.silence)

            payload = _payload(session, operation, request)
            done = await session.stream(shell.AGENT, receive, input=payload, patience=POUR_PATIENCE)
    except TimeoutError as error:
        if not patience.expired():
            raise
        raise PodHangs(session.pod, session.silence) from error
    if not answers or done.status > 0:
        _refuse_silence(session.pod, done, lines.noise)


class Lines:
    """Find marked lines in chunks; what login shells print between them is kept as `noise` for error messages."""

    def __init__(self, pod: str, sink: OnMessage) -> None:
        self.noise = b""
        self._pod = pod
        self._sink = sink
        self._rest = bytearray()
        self._unmarked = 0

    def feed(self, chunk: bytes) -> None:
        begin = len(self._rest)
        self._rest += chunk
        while (end := self._rest.find(b"\n", begin)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            begin = 0
            before, mark, message = line.partition(MARK_BYTES)
            self._pass_over(before)
            if mark and self._read(message):
                return
        if len(self._rest) > MOST_LINE:
            raise NotUnderstood(self._pod, f"a line of more than {MOST_LINE} bytes")

    def take_rest(self) -> bytes:
        """Return the raw bytes that came behind the answer."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def _pass_over(self, noise: bytes) -> None:
        self.noise = (self.noise + noise)[-KEPT_NOISE:]
        self._unmarked += len(noise)
        if self._unmarked > MOST_NOISE:
            raise NotUnderstood(self._pod, f"more than {MOST_NOISE} bytes that are not from the agent")

    def _read(self, line: bytes) -> bool:
        """Pass on a message; return whether it was the answer."""
        message = read_json(self._pod, line)
        if debug.is_on() and message.get("event") not in ("beat", "log"):
            debug.note(f"{self._pod}: its agent says {line[:SHOWN_ANSWER].decode('utf-8', 'replace')}")
        if not message.keys() & {"event", "result", "refusal"}:
            raise NotUnderstood(self._pod, "a message that is neither an event nor an answer")
        self._sink(message)
        return "event" not in message


def read_json(pod: str, data: bytes) -> dict[str, Any]:
    """Return an object of JSON. Raises `NotUnderstood` for anything else, NaN and nesting without end included."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(pod, "what should be JSON is not") from error
    if not isinstance(value, dict):
        raise NotUnderstood(pod, "JSON that is not an object")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


class Frames:
    """Put frames together that come in pieces."""

    def __init__(self, pod: str, sources: int) -> None:
        self._pod = pod
        self._sources = sources
        self._header = b""
        self._pieces: list[memoryview] = []
        self._missing = 0  # bytes of the payload, once the header is complete

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Take in the next piece and yield the frames that are complete by now, but for beats."""
        rest = memoryview(chunk)
        while rest:
            if missing := HEADER.size - len(self._header):
                self._header += rest[:missing]
                rest = rest[missing:]
                if len(self._header) < HEADER.size:
                    return
                self._missing = self._length()
            piece, rest = rest[: self._missing], rest[self._missing :]
            self._pieces.append(piece)
            self._missing -= len(piece)
            if not self._missing:
                kind, source, _, offset = HEADER.unpack(self._header)
                if kind != BEAT:
                    yield Frame(kind == EVENT, source, offset, b"".join(self._pieces))
                self._header, self._pieces = b"", []

    def _length(self) -> int:
        """Return how long the payload is, by a header that is complete."""
        kind, source, length, _ = HEADER.unpack(self._header)
        if kind not in (DATA, EVENT, BEAT) or source >= self._sources or length > MOST_PAYLOAD:
            raise NotUnderstood(self._pod, "a piece of a log that pi did not ask for")
        return int(length)


def _payload(session: PodSession, operation: "protocol.Operation", request: "protocol.Request") -> bytes:
    envelope: protocol.Envelope = {
        "protocol": VERSION,
        "operation": operation,
        "beat": session.silence / BEATS,
        "request": request,
    }
    program = agent_program.packed(operation)
    if debug.is_on():
        debug.note(f"{session.pod}: asks its agent to {operation}: {_without_secrets(request)}")
    return b"%d\n%s%s\n" % (len(program), program, json.dumps(envelope).encode())


def _without_secrets(request: "protocol.Request") -> str:
    """Return a request for the log: of environments the names only."""
    shown = {
        key: sorted(value) if key.endswith("environment") and isinstance(value, dict) else value
        for key, value in request.items()
        if key != "middleware"
    }
    return json.dumps(shown)


def _refuse_silence(pod: str, done: Completed, noise: bytes) -> NoReturn:
    """Raise the error for an agent that has ended without an answer."""
    if done.status == 127:
        raise PiError(f"pod `{pod}` has no python3", hint=fill("prepare it with `pi pods setup {pod}`", pod=pod))
    if done.status < 0:
        raise PiError(
            f"pod `{pod}` did not answer: its python3 was killed (out of memory?)",
            hint=fill("see what takes it with `pi ssh {pod} free -g`", pod=pod),
        )
    said = safe((done.stderr or noise).decode("utf-8", "replace")).strip().splitlines()
    raise PiError(
        f"pod `{pod}` did not answer (exit code {done.status}): {said[-1] if said else 'it printed nothing'}",
        hint=fill("see whether `pi ssh {pod} python3 --version` works", pod=pod),
    )

"""Talk to the agent on a pod: one request, events while it works, one answer. All input is limited in size."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from pi_cli import waits
from pi_cli.errors import PiError, PodUnreachable
from pi_cli.hints import fill
from pi_cli.hold.session import HeldSession, Wish
from pi_cli.safe import safe
from pi_cli.ssh.completed import EXIT_TIMEOUT, Completed, OutputSink
from pi_cli.store import debug

if TYPE_CHECKING:
    from agent import protocol

    from pi_cli.pods.sending import Sending
    from pi_cli.ssh.session import PodSession

VERSION: protocol.Version = 1
MARK: protocol.Mark = "\x1epi "
FRAME_HEADER: protocol.FrameHeader = "!BHIQ"
DATA: protocol.DataKind = 0
EVENT: protocol.EventKind = 1
BEAT: protocol.BeatKind = 2
MAX_LINE: protocol.MaxLine = 4194304
MAX_NOISE: protocol.MaxNoise = 1048576
MAX_PAYLOAD: protocol.MaxPayload = 2097152

MAX_MISSED_BEATS = 6  # then the agent counts as hanging
KEPT_NOISE = 4096  # bytes of the output of login shells, for error messages
SHOWN_ANSWER = 2000  # bytes of an answer in the notes for debugging
# What only reads: its request may reach the pod twice, and so may travel with a login that is not complete.
READS: frozenset[protocol.Operation] = frozenset(("survey", "inspect", "logs", "holders", "launches"))
STREAM_EXIT_TIMEOUT = 0.2  # seconds for an agent that streams to notice that pi disconnects

HEADER = struct.Struct(FRAME_HEADER)
MARK_BYTES = MARK.encode()
MESSAGE_KEYS: frozenset[protocol.MessageKey] = frozenset(("event", "result", "refusal"))

OnMessage = Callable[["protocol.Message"], None]
OnEvent = Callable[["protocol.Event"], None]
OnReply = Callable[["protocol.Reply"], None]


class NotUnderstood(PiError):
    """A pod sent something that pi's agent never sends. pi has recorded nothing of it."""

    def __init__(self, pod: str, what: object) -> None:
        super().__init__(
            f"pod `{pod}` gave an answer that pi does not understand: {what}",
            hint=fill("see what runs there with `pi ssh {pod}`; setting it up again may help", pod=pod),
        )


class PodHangs(PodUnreachable):
    """The SSH login succeeded, but the agent stopped sending."""

    may_be_gone = False

    def __init__(self, pod: str, seconds: float) -> None:
        super().__init__(
            pod,
            f"it answers SSH, but its python3 hangs (it sent nothing for {seconds:.0f} s)",
            hint=fill(
                "see why with `pi ssh {pod}`, e.g. a network share that does not answer or a process stuck in the "
                "driver; restarting the machine fixes both",
                pod=pod,
            ),
        )


async def ask(
    session: PodSession,
    operation: protocol.Operation,
    request: protocol.Request,
    on_event: OnEvent,
    *,
    more: Iterable[bytes] | AsyncIterable[bytes] | None = None,
) -> protocol.Reply:
    """Run an operation to its end and return the answer; pass the events before it to `on_event`.

    `more` are bytes that follow the request.

    Raises `PodUnreachable` when the connection is lost, `PodHangs` after `session.silence` seconds without data,
    `NotUnderstood`, and `PiError` if the agent cannot run.
    """
    answers: list[protocol.Reply] = []
    clock = asyncio.get_running_loop().time
    sending = await _logged_in(session, operation, request, is_whole=more is not None)
    try:
        async with asyncio.timeout(session.silence) as deadline:

            def dispatch(message: protocol.Message) -> None:
                if "event" not in message:
                    answered()
                    answers.append(message)
                    deadline.reschedule(clock() + EXIT_TIMEOUT)
                    return
                deadline.reschedule(clock() + session.silence)
                if message["event"] == "kept":
                    _kept(session, sending, message)
                elif message["event"] != "beat":
                    answered()
                    on_event(message)

            lines = MarkedLines(session.pod, dispatch)
            with waits.on("waiting for", session.pod) as answered:
                done = await _run(
                    session,
                    operation,
                    request,
                    sending,
                    lines.feed,
                    deadline,
                    more=more,
                    exit_timeout=lambda: 0.0 if deadline.expired() else EXIT_TIMEOUT,  # what hangs cleans up nothing
                )
    except TimeoutError as error:
        if not deadline.expired():
            raise
        if not answers:
            raise PodHangs(session.pod, session.silence) from error
        return answers[0]  # nothing follows the answer, even if the agent has not exited
    if not answers:
        raise_no_answer(session, done, lines.noise)
    return answers[0]


class Frame(NamedTuple):
    """A part of a log, or an event about it; `offset` is the position in the log after the frame."""

    is_event: bool
    source: int
    offset: int
    payload: bytes


OnFrame = Callable[[Frame], Awaitable[None] | None]


async def stream(
    session: PodSession,
    operation: protocol.Operation,
    request: protocol.Request,
    on_answer: OnReply,
    on_frame: OnFrame,
    *,
    sources: int,
) -> None:
    """Run an operation whose answer is followed by frames of this many sources; pass on the answer and each frame.

    An awaitable that `on_frame` returns is awaited. Raises the same errors as `ask`. After a disconnect, nothing on the
    pod has to be cleaned up.
    """
    answers: list[protocol.Reply] = []
    clock = asyncio.get_running_loop().time
    sending = await _logged_in(session, operation, request)
    try:
        async with asyncio.timeout(session.silence) as deadline:

            def dispatch(message: protocol.Message) -> None:
                if "event" not in message:
                    answered()
                    answers.append(message)
                    on_answer(message)
                elif message["event"] == "kept":
                    _kept(session, sending, message)

            lines, frames = MarkedLines(session.pod, dispatch), Frames(session.pod, sources)

            async def receive(chunk: bytes) -> None:
                deadline.reschedule(None)  # the consumer of the frames may be slow
                if not answers:
                    lines.feed(chunk)
                    chunk = lines.take_rest() if answers else b""
                for frame in frames.feed(chunk):
                    if waiting := on_frame(frame):
                        await waiting
                deadline.reschedule(clock() + session.silence)

            with waits.on("waiting for", session.pod) as answered:
                done = await _run(
                    session, operation, request, sending, receive, deadline, exit_timeout=lambda: STREAM_EXIT_TIMEOUT
                )
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise PodHangs(session.pod, session.silence) from error
    if not answers or done.status > 0:
        raise_no_answer(session, done, lines.noise)


class MarkedLines:
    """Find marked lines in chunks; other output, e.g. of login shells, is kept as `noise` for error messages."""

    def __init__(self, pod: str, on_message: OnMessage) -> None:
        self.noise = b""
        self._pod = pod
        self._on_message = on_message
        self._rest = bytearray()
        self._noise_size = 0

    def feed(self, chunk: bytes) -> None:
        begin = len(self._rest)
        self._rest += chunk
        while (end := self._rest.find(b"\n", begin)) >= 0:
            line = bytes(self._rest[:end])
            del self._rest[: end + 1]
            begin = 0
            self._require_short(line)
            before, mark, message = line.partition(MARK_BYTES)
            self._skip(before)
            if mark and self._read(message):
                return
        self._require_short(self._rest)

    def take_rest(self) -> bytes:
        """Return the raw bytes after the answer."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def _require_short(self, line: bytes | bytearray) -> None:
        if len(line) > MAX_LINE:
            raise NotUnderstood(self._pod, f"a line of more than {MAX_LINE} bytes")

    def _skip(self, noise: bytes) -> None:
        self.noise = (self.noise + noise)[-KEPT_NOISE:]
        self._noise_size += len(noise)
        if self._noise_size > MAX_NOISE:
            raise NotUnderstood(self._pod, f"more than {MAX_NOISE} bytes that are not from the agent")

    def _read(self, line: bytes) -> bool:
        """Pass on a message; return whether it was the answer."""
        message = read_json(self._pod, line)
        if debug.is_on() and message.get("event") not in ("beat", "log"):
            debug.note(f"{self._pod}: its agent sent {line[:SHOWN_ANSWER].decode('utf-8', 'replace')}")
        if not message.keys() & MESSAGE_KEYS:
            raise NotUnderstood(self._pod, "a message that is neither an event nor an answer")
        self._on_message(cast("protocol.Message", message))
        return "event" not in message


def read_json(pod: str, data: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises `NotUnderstood` for anything else, including NaN and nesting that is too deep."""
    try:
        value = json.loads(data, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood(pod, "text that is not JSON") from error
    if not isinstance(value, dict):
        raise NotUnderstood(pod, "JSON that is not an object")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


class Frames:
    """Assemble frames from chunks of any size."""

    def __init__(self, pod: str, sources: int) -> None:
        self._pod = pod
        self._sources = sources
        self._header = b""
        self._pieces: list[memoryview] = []
        self._missing = 0  # bytes of the payload, once the header is complete

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Add a chunk, and yield the frames that it completes, except beats."""
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
        """Return the length of the payload according to the complete header."""
        kind, source, length, _ = HEADER.unpack(self._header)
        if kind not in (DATA, EVENT, BEAT) or source >= self._sources or length > MAX_PAYLOAD:
            raise NotUnderstood(self._pod, "a part of a log that pi did not request")
        return int(length)


async def _run(
    session: PodSession,
    operation: protocol.Operation,
    request: protocol.Request,
    sending: Sending | None,
    sink: OutputSink,
    deadline: asyncio.Timeout,
    *,
    more: Iterable[bytes] | AsyncIterable[bytes] | None = None,
    exit_timeout: Callable[[], float],
) -> Completed:
    """Run an operation: over a held link if the session has one, else over its connection."""
    if isinstance(session, HeldSession):
        wish = Wish(operation, session.silence / MAX_MISSED_BEATS, cast("Mapping[str, object]", request))
        _note_request(session, operation, request)
        done = await session.operate(wish, sink, deadline=deadline, exit_timeout=exit_timeout) if more is None else None
        if done:
            return done
        sending = _sending(session, operation, request, is_whole=more is not None)
        session = await own_connection(session, operation, sending, deadline)
    assert sending
    done = await session.stream(sending.command, sink, input=sending.input, more=more, exit_timeout=exit_timeout)
    if not sending.has_missed(done):
        return done
    debug.note(f"{session.pod}: it has not kept the agent for {operation}; sending it")
    return await session.stream(sending.command, sink, input=sending.input, exit_timeout=exit_timeout)


async def _logged_in(
    session: PodSession, operation: protocol.Operation, request: protocol.Request, *, is_whole: bool = False
) -> Sending | None:
    """Wait for the login, and return the agent and its request, which may travel with it. A held link needs neither."""
    if isinstance(session, HeldSession):
        return None
    sending = _sending(session, operation, request, is_whole=is_whole)
    await own_connection(session, operation, sending)
    return sending


async def own_connection(
    session: PodSession, operation: protocol.Operation, sending: Sending, deadline: asyncio.Timeout | None = None
) -> PodSession:
    """Return this command's own connection once it is logged in; the agent and its request may travel with the login.

    `deadline` waits for a login that begins only now.
    """
    from pi_cli.ssh.first import First

    first = First(sending.command, sending.input if operation in READS else b"")
    if isinstance(session, HeldSession):
        return await session.own(deadline, first)
    await session.logged_in(first)
    return session


def _sending(
    session: PodSession, operation: protocol.Operation, request: protocol.Request, *, is_whole: bool
) -> Sending:
    """Return how a request is sent: with its program, or with the name of that which the pod has kept.

    `is_whole`: more follows the request, and so nothing could be sent twice.
    """
    from pi_cli.pods import agent_program  # not loaded by commands that need only a held link
    from pi_cli.pods.sending import Sending

    modules = needs(operation, request)
    is_kept = modules in agent_program.KEPT and not is_whole
    line = envelope(session, operation, request, keep=is_kept)
    return Sending(session.pod, agent_program.packed(modules), line, may_be_kept=is_kept)


def _kept(session: PodSession, sending: Sending | None, message: protocol.Kept) -> None:
    """Take the hash of a program that the pod has kept. Only what was sent from here is remembered."""
    if sending and not sending.was_kept(message.get("hash")):
        raise NotUnderstood(session.pod, "a hash that pi's agent never gives")


def needs(operation: protocol.Operation, request: protocol.Request) -> str:
    """Return for which operation of `agent_program` the modules are that a request needs."""
    from pi_cli.pods import agent_program

    return agent_program.LEASED_START if request.get("lease") else operation


def envelope(
    session: PodSession,
    operation: protocol.Operation,
    request: protocol.Request,
    *,
    stays: bool = False,
    keep: bool = False,
) -> bytes:
    """Return a request as the agent reads it. If the agent `stays`, another program and request follow; `keep`: the pod
    is to keep its program."""
    envelope: protocol.Envelope = {
        "protocol": VERSION,
        "operation": operation,
        "beat": session.silence / MAX_MISSED_BEATS,
        "request": request,
    }
    if stays:
        envelope["stays"] = True
    if keep:
        envelope["keep"] = True
    _note_request(session, operation, request)
    return json.dumps(envelope).encode() + b"\n"


def _note_request(session: PodSession, operation: protocol.Operation, request: protocol.Request) -> None:
    if debug.is_on():
        debug.note(f"{session.pod}: request to its agent: {operation} {_without_secrets(request)}")


def _without_secrets(request: protocol.Request) -> str:
    """Return a request for the debug log, with the names of environment variables but not their values."""
    shown = {
        key: sorted(value) if key.endswith("environment") and isinstance(value, dict) else value
        for key, value in request.items()
        if key not in ("middleware", "parser", "lease", "wish", "nonce")
    }
    return json.dumps(shown)


def raise_no_answer(session: PodSession, done: Completed, noise: bytes) -> NoReturn:
    """Raise the error for an agent that exited without an answer."""
    pod = session.pod
    if done.status == 127:
        raise PiError(f"pod `{pod}` has no python3", hint=fill("prepare it with `pi pods setup {pod}`", pod=pod))
    if done.status < 0:
        raise PiError(
            f"pod `{pod}` did not answer: its python3 was killed (out of memory?)",
            hint=fill("see what uses the memory with `pi ssh {pod} free -g`", pod=pod),
        )
    from pi_cli.ssh import refusals

    said = safe((done.stderr or noise).decode("utf-8", "replace")).strip()
    output = said.splitlines()
    check = fill("check whether `pi ssh {pod} python3 --version` works", pod=pod)
    raise PiError(
        f"pod `{pod}` did not answer (exit code {done.status}): {output[-1] if output else 'it printed nothing'}",
        hint=refusals.hint(said, pod, session.ssh) or check,
    )

"""Logs of models on stdout: unchanged in a file or a pipe, and made safe on a terminal."""

import asyncio
import codecs
import errno
import fcntl
import itertools
import os
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from pi_cli.errors import PiError
from pi_cli.events import Event, Note
from pi_cli.models.logs import Source
from pi_cli.view import waiting

MAX_BACKLOG = 1 << 20  # bytes that may wait for the reader of stdout; beyond that, reading from the pods pauses
MAX_LINE = 1 << 20  # bytes after which a line counts as complete
NEWLINE = ord("\n")
LABEL_COLOURS = (36, 33, 32, 35, 34, 31)  # the terminal's own cyan, yellow, green, magenta, blue, red


@asynccontextmanager
async def showing(sources: Sequence[Source], *, as_json: bool = False) -> AsyncIterator["Logs"]:
    """Show logs while the block runs; at its end, wait until everything is written.

    If the reader of stdout closes its end, the block is cancelled, and that is not an error. Raises `PiError` if stdout
    cannot be written for another reason.
    """
    scope = asyncio.timeout(None)
    writer = _StdoutWriter(interrupt=lambda: scope.reschedule(0))
    try:
        async with scope:
            with writer.running():
                yield Logs(sources, writer, as_json=as_json)
                await writer.wait_until_written()
    except TimeoutError:
        if writer.failure is None:
            raise
        if writer.failure.errno != errno.EPIPE:
            raise PiError(f"cannot write to stdout: {writer.failure.strerror}") from writer.failure


class Logs:
    """Logs of several models on one stdout: each line is labelled with its model, unless there is only one."""

    def __init__(self, sources: Sequence[Source], writer: "_StdoutWriter", *, as_json: bool = False) -> None:
        self._writer = writer
        if as_json:
            self._pipelines = {source: _LogPipeline(None, _LinesAsJson(source)) for source in sources}
            return
        is_terminal = sys.stdout.isatty()
        is_coloured = is_terminal and _has_colours()
        labels = _labels(sources, is_coloured) if len(sources) > 1 else [b""]
        self._pipelines = {
            source: _LogPipeline(
                _TerminalCleaner(is_coloured) if is_terminal else None, _LineLabeller(label) if label else None
            )
            for source, label in zip(sources, labels, strict=True)
        }

    def write(self, source: Source, data: bytes) -> Awaitable[None] | None:
        """Show the next bytes of a log; empty `data` is the end of a file. The caller has to await the result."""
        pipeline = self._pipelines[source]
        output = pipeline.feed(data) if data else pipeline.end()
        if output:
            self._writer.put(memoryview(output))
        return self._writer.wait_for_space() if self._writer.is_full else None

    def note(self, event: Event) -> None:
        """Print a note after everything before it has been written."""
        if isinstance(event, Note):
            self._writer.put(event)


def _has_colours() -> bool:
    from pi_cli.view import terminal

    console = terminal.out()
    return console.color_system is not None and not console.no_color


def _labels(sources: Sequence[Source], is_coloured: bool) -> list[bytes]:
    has_pods = len({source.pod for source in sources}) > 1
    names = [f"{source.pod}/{source.name}" if has_pods else source.name for source in sources]
    width = max(map(len, names))
    labels = [f"{name:{width}} │" for name in names]
    if is_coloured:
        colours = itertools.cycle(LABEL_COLOURS)
        labels = [f"\x1b[0;{next(colours)}m{label}\x1b[0m" for label in labels]
    return [f"{label} ".encode(sys.stdout.encoding, "replace") for label in labels]


class _TerminalCleaner:
    """Makes the bytes of a log safe for a terminal."""

    def __init__(self, is_coloured: bool) -> None:
        from pi_cli.safe import Sanitizer

        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._sanitizer = Sanitizer(colour=is_coloured)

    def feed(self, data: bytes) -> bytes:
        return self._encoded(self._sanitizer.feed(self._decoder.decode(data)))

    def end(self) -> bytes:
        text = self._sanitizer.feed(self._decoder.decode(b"", final=True)) + self._sanitizer.end()
        return self._encoded(text)

    def _encoded(self, text: str) -> bytes:
        return text.encode(sys.stdout.encoding, "replace")


class _LineLabeller:
    """Puts a label before every line, and buffers a line until it is complete."""

    def __init__(self, label: bytes) -> None:
        self._label = label
        self._partial = bytearray()

    def feed(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1
        if not end and len(self._partial) < MAX_LINE:
            self._partial += data
            return b""
        lines = bytes(self._partial) + (data[:end] if end else data + b"\n")
        self._partial = bytearray(data[end:] if end else b"")
        line_end = b"\x1b[0m\n" if b"\x1b" in lines else b"\n"  # a colour ends with its line
        return self._label + lines[:-1].replace(b"\n", line_end + self._label) + line_end

    def end(self) -> bytes:
        return self.feed(b"\n") if self._partial else b""


class _LinesAsJson:
    """Writes every line as JSON with its pod and model, and buffers a line until it is complete."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._partial = bytearray()

    def feed(self, data: bytes) -> bytes:
        *lines, rest = (bytes(self._partial) + data).split(b"\n")
        if len(rest) > MAX_LINE:
            lines, rest = [*lines, rest], b""
        self._partial = bytearray(rest)
        return b"".join(map(self._written, lines))

    def end(self) -> bytes:
        return self.feed(b"\n") if self._partial else b""

    def _written(self, line: bytes) -> bytes:
        from pi_cli.view import terminal

        text = line.decode("utf-8", "replace")
        data = {"pod": self._source.pod, "name": self._source.name, "line": text}
        return terminal.json_line(data).encode()


class _LogPipeline:
    """What is done to the bytes of one log before they are written."""

    def __init__(self, cleaner: _TerminalCleaner | None, labeller: _LineLabeller | _LinesAsJson | None) -> None:
        self._cleaner, self._labeller = cleaner, labeller

    def feed(self, data: bytes) -> bytes:
        if self._cleaner:
            data = self._cleaner.feed(data)
        return self._labeller.feed(data) if self._labeller and data else data

    def end(self) -> bytes:
        rest = self._cleaner.end() if self._cleaner else b""
        return self._labeller.feed(rest) + self._labeller.end() if self._labeller else rest


class _StdoutWriter:
    """Writes to stdout at its reader's speed, without blocking: a slow reader delays neither Ctrl+C nor SSH."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.failure: OSError | None = None
        self._interrupt = interrupt
        self._loop = asyncio.get_running_loop()
        self._backlog: deque[memoryview | Note] = deque()
        self._backlog_bytes = 0
        self._has_space, self._is_empty = asyncio.Event(), asyncio.Event()
        self._is_empty.set()
        self._is_line_open = False
        self._shares_terminal = sys.stdout.isatty() and sys.stderr.isatty()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write while the block runs."""
        with _non_blocking(sys.stdout.fileno()) as self._stdout:
            if stat.S_ISFIFO(os.fstat(self._stdout).st_mode):  # reports immediately that the reader closed its end
                self._loop.add_reader(self._stdout, self._fail, BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            try:
                yield
            finally:
                self._loop.remove_reader(self._stdout)
                self._loop.remove_writer(self._stdout)

    @property
    def is_full(self) -> bool:
        return self._backlog_bytes > MAX_BACKLOG

    def put(self, piece: memoryview | Note) -> None:
        """Write a piece as soon as stdout accepts it."""
        if self._shares_terminal and not isinstance(piece, Note):
            waiting.stop()  # its line and the log would mix: what happens from now on is in notes
        self._backlog.append(piece)
        self._backlog_bytes += 0 if isinstance(piece, Note) else len(piece)
        if self.is_full:
            self._has_space.clear()
        if self._is_empty.is_set():
            self._is_empty.clear()
            self._write()

    async def wait_for_space(self) -> None:
        await self._has_space.wait()

    async def wait_until_written(self) -> None:
        await self._is_empty.wait()

    def _write(self) -> None:
        """Write as much as stdout accepts, and continue when it accepts more."""
        while self._backlog:
            piece = self._backlog.popleft()
            if isinstance(piece, Note):
                self._print_note(piece)
                continue
            try:
                written = os.write(self._stdout, piece)
            except BlockingIOError:
                self._backlog.appendleft(piece)
                self._loop.add_writer(self._stdout, self._write)
                return
            except OSError as error:
                self._fail(error)
                return
            self._is_line_open = piece[written - 1] != NEWLINE
            self._backlog_bytes -= written
            if written < len(piece):
                self._backlog.appendleft(piece[written:])
            if not self.is_full:
                self._has_space.set()
        self._loop.remove_writer(self._stdout)
        self._is_empty.set()

    def _print_note(self, note: Note) -> None:
        from pi_cli.view import terminal

        if self._is_line_open and self._shares_terminal:
            with suppress(BlockingIOError):
                os.write(self._stdout, b"\n")
        terminal.note(note.text)

    def _fail(self, error: OSError) -> None:
        self._loop.remove_reader(self._stdout)
        self._loop.remove_writer(self._stdout)
        if self.failure is None:
            self.failure = error
            self._interrupt()


@contextmanager
def _non_blocking(descriptor: int) -> Iterator[int]:
    """Open a pipe or a terminal again: a flag set on `descriptor` itself would affect every process that shares it.

    Where that is not possible (on systems other than Linux), `descriptor` itself is used, and writing may block.
    """
    reopened = None
    if os.isatty(descriptor) or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with suppress(OSError):
            reopened = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if reopened is None:
        yield descriptor
        return
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # a terminal, or the limit for pipes is reached
            fcntl.fcntl(reopened, fcntl.F_SETPIPE_SZ, MAX_BACKLOG)
    try:
        yield reopened
    finally:
        os.close(reopened)

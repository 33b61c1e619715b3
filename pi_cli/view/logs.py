"""Logs of models on stdout: as they are where it is no terminal, on a terminal without what would steer it."""

import asyncio
import codecs
import errno
import fcntl
import os
import stat
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

from pi_cli.errors import PiError
from pi_cli.events import Event, Note
from pi_cli.models.logs import Source

MOST_WAITING = 1 << 20  # bytes that wait for whoever reads stdout; when there are more, the pods wait
LONGEST = 1 << 20  # bytes after which a line counts as complete
NEWLINE = ord("\n")
COLOURS = (36, 33, 32, 35, 34, 31)  # of the terminal's own: cyan, yellow, green, magenta, blue, red


@asynccontextmanager
async def opened(sources: Sequence[Source]) -> AsyncIterator["Logs"]:
    """Show logs while the block runs, and at its end wait until they are written.

    When nobody reads stdout any more, the block is ended, and that is no error. Raises `PiError` when stdout cannot be
    written to.
    """
    patience = asyncio.timeout(None)
    writer = _Writer(interrupt=lambda: patience.reschedule(0))
    try:
        async with patience:
            with writer.at_work():
                yield Logs(sources, writer)
                await writer.until_all_is_written()
    except TimeoutError:
        if writer.failure is None:
            raise
        if writer.failure.errno != errno.EPIPE:
            raise PiError(f"cannot write to stdout: {writer.failure.strerror}") from writer.failure


class Logs:
    """Logs of several models on one stdout: each line says whose it is, unless there is only one."""

    def __init__(self, sources: Sequence[Source], writer: "_Writer") -> None:
        self._writer = writer
        is_terminal = sys.stdout.isatty()
        is_coloured = is_terminal and _has_colours()
        labels = _labels(sources, is_coloured) if len(sources) > 1 else [b""]
        self._ways = {
            source: _Way(_Cleaner(is_coloured) if is_terminal else None, _Marker(label) if label else None)
            for source, label in zip(sources, labels, strict=True)
        }

    def write(self, source: Source, data: bytes) -> Awaitable[None] | None:
        """Show the next bytes of a log; nothing means that a file has ended. What is returned is to be waited for."""
        way = self._ways[source]
        shown = way.feed(data) if data else way.end()
        if shown:
            self._writer.put(memoryview(shown))
        return self._writer.until_there_is_room() if self._writer.is_full else None

    def note(self, event: Event) -> None:
        """Print a note when all that came before it is written."""
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
        labels = [f"\x1b[0;{COLOURS[at % len(COLOURS)]}m{label}\x1b[0m" for at, label in enumerate(labels)]
    return [f"{label} ".encode(sys.stdout.encoding, "replace") for label in labels]


class _Cleaner:
    """Makes the bytes of a log fit for a terminal."""

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


class _Marker:
    """Puts a label before every line, and holds a line back until it is complete."""

    def __init__(self, label: bytes) -> None:
        self._label = label
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        cut = data.rfind(b"\n") + 1
        if not cut and len(self._held) < LONGEST:
            self._held += data
            return b""
        lines = bytes(self._held) + (data[:cut] if cut else data + b"\n")
        self._held = bytearray(data[cut:] if cut else b"")
        break_off = b"\x1b[0m\n" if b"\x1b" in lines else b"\n"  # no colour leaves its line
        return self._label + lines[:-1].replace(b"\n", break_off + self._label) + break_off

    def end(self) -> bytes:
        return self.feed(b"\n") if self._held else b""


class _Way:
    """The way of a log to stdout."""

    def __init__(self, cleaner: _Cleaner | None, marker: _Marker | None) -> None:
        self._cleaner, self._marker = cleaner, marker

    def feed(self, data: bytes) -> bytes:
        if self._cleaner:
            data = self._cleaner.feed(data)
        return self._marker.feed(data) if self._marker and data else data

    def end(self) -> bytes:
        rest = self._cleaner.end() if self._cleaner else b""
        return self._marker.feed(rest) + self._marker.end() if self._marker else rest


class _Writer:
    """Writes to stdout as its reader takes it: neither Ctrl+C nor the link to a pod waits for him."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.failure: OSError | None = None
        self._interrupt = interrupt
        self._loop = asyncio.get_running_loop()
        self._backlog: deque[memoryview | Note] = deque()
        self._waiting = 0  # bytes in it
        self._has_room, self._is_empty = asyncio.Event(), asyncio.Event()
        self._is_empty.set()
        self._is_line_open = False
        self._shares_terminal = sys.stdout.isatty() and sys.stderr.isatty()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Write while the block runs."""
        with _without_blocking(sys.stdout.fileno()) as self._stdout:
            if stat.S_ISFIFO(os.fstat(self._stdout).st_mode):  # the loop tells at once when its reader has gone
                self._loop.add_reader(self._stdout, self._fail, BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            try:
                yield
            finally:
                self._loop.remove_reader(self._stdout)
                self._loop.remove_writer(self._stdout)

    @property
    def is_full(self) -> bool:
        return self._waiting > MOST_WAITING

    def put(self, piece: memoryview | Note) -> None:
        """Write a piece as soon as there is room for it."""
        self._backlog.append(piece)
        self._waiting += 0 if isinstance(piece, Note) else len(piece)
        if self.is_full:
            self._has_room.clear()
        if self._is_empty.is_set():
            self._is_empty.clear()
            self._write()

    async def until_there_is_room(self) -> None:
        await self._has_room.wait()

    async def until_all_is_written(self) -> None:
        await self._is_empty.wait()

    def _write(self) -> None:
        """Write as much as there is room for, and go on when there is more."""
        while self._backlog:
            piece = self._backlog.popleft()
            if isinstance(piece, Note):
                self._say(piece)
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
            self._waiting -= written
            if written < len(piece):
                self._backlog.appendleft(piece[written:])
            if not self.is_full:
                self._has_room.set()
        self._loop.remove_writer(self._stdout)
        self._is_empty.set()

    def _say(self, note: Note) -> None:
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
def _without_blocking(descriptor: int) -> Iterator[int]:
    """Open a pipe or a terminal once more, since a flag set on `descriptor` would be set for all who share it.

    Where that cannot be done, elsewhere than on Linux, we wait for its reader after all.
    """
    again = None
    if os.isatty(descriptor) or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with suppress(OSError):
            again = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if again is None:
        yield descriptor
        return
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):  # a terminal, or one pipe too many
            fcntl.fcntl(again, fcntl.F_SETPIPE_SZ, MOST_WAITING)
    try:
        yield again
    finally:
        os.close(again)

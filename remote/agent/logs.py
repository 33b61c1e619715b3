"""Send models' logs as they grow: through rotations, truncations and restarts, until the models have exited.

After one marked line, stdout carries frames: `HEADER` and a payload. The payload of a DATA frame is bytes of the file
(with a filter, whole lines), that of an EVENT frame is JSON. The offset is the position in the file after the frame.
Together with the file's identity in the latest event, it lets pi continue from there over another connection.
"""

import contextlib
import fcntl
import json
import os
import select
import stat
import struct
import sys
import time
import zlib
from typing import TYPE_CHECKING, Dict, Iterator, List, NoReturn, Optional, Union

from agent import home, log_search, processes, records, wire
from agent.log_search import MAX_LINE, MAX_LOOK, Query
from agent.machine import LOGS
from agent.processes import Process
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

FORMAT: "protocol.FrameHeader" = "!BHIQ"  # kind, number of the source, bytes of payload, offset in the file after it
HEADER = struct.Struct(FORMAT)
DATA: "protocol.DataKind" = 0
EVENT: "protocol.EventKind" = 1
BEAT: "protocol.BeatKind" = 2
CHUNK = 1 << 17  # bytes that are read and sent at a time
PIPE_SIZE = 1 << 20  # bytes of the pipe to sshd: a larger pipe means fewer context switches
HEAD = 1024  # first bytes of a file, which identify it: vLLM's first line has a time and a PID
NEWLINE = ord("\n")
OLDEST = 9  # NAME.log.9 is the oldest file that is considered
CALM = 0.004  # seconds between two frames when lines arrive fast: thousands of tiny frames would keep pi busy
LOOK = 1.0  # seconds between two checks whether a model is alive
POLL = 0.1  # seconds between two checks of files without inotify, and of a model that may be restarting
GRACE = 2.0  # seconds for a model to be restarted
F_SETPIPE_SZ = 1031  # fcntl(2); in Python since 3.10
CHANGES = 0x002 | 0x0C0 | 0x100  # inotify(7): modified, moved, created


def logs(request: "protocol.LogsRequest") -> NoReturn:
    """Send the logs of models: from `position` on if pi has read them before, else the last matching `lines` since a
    moment (see `log_search`). With `grep`, send only matching lines; without `follow`, stop at the end of the file.
    """
    query, out, marked = log_search.query(request), Out(), processes.marked()
    opened = [
        Log(number, source, Life(source, marked), query, request["follow"], out)
        for number, source in enumerate(request["sources"])
    ]
    for log in opened:
        log.require_something()
    wire.emit({"result": {}})
    wire.beats.every = float("inf")  # from here on, beats are frames
    try:
        pass_on_all(opened, out)
    except OSError as error:
        sys.exit("cannot read the log: %s" % error)
    wire.leave()


def pass_on_all(opened: List["Log"], out: "Out") -> None:
    watcher = Watcher()
    for log in opened:
        with log.giving_up():
            log.begin()
    next_look = time.monotonic() + LOOK
    while opened:
        out.beat()
        sent = {}
        for log in opened:
            with log.giving_up():
                sent[log] = log.pass_on()  # one chunk each
        now = time.monotonic()
        if now >= next_look:
            check_lives(opened)
            next_look = now + (POLL if any(log.life.is_over for log in opened) else LOOK)
        for log in [log for log, size in sent.items() if not size and log.is_complete(now)]:
            with log.giving_up():
                log.end()
            opened.remove(log)
        if not opened:
            return
        if not any(sent.values()):
            watcher.wait(max(next_look - now, 0.0))
        elif max(sent.values()) < CHUNK - MAX_LOOK and wire.stdin_ended(CALM):
            wire.leave()


def check_lives(opened: List["Log"]) -> None:
    """Check whether the models still run. All processes are searched only for models whose known ones have exited."""
    doubtful = [log for log in opened if log.follow and not log.life.is_surely_alive()]
    marked = processes.marked() if doubtful else {}
    for log in doubtful:
        before = log.life.uid
        log.life.look(marked)
        if log.life.uid != before:
            log.report("restarted")


class Life:
    """Whether a model with this name runs; `uid` is that of the newest one that runs, or ran.

    It exited at `ended` (monotonic clock).
    """

    def __init__(self, source: "protocol.LogSource", marked: Dict[str, List[Process]]) -> None:
        self.uid: Optional[str] = source["uid"] or records.uid_of(source["name"])
        self.is_over = self.is_launched = False
        self.ended = 0.0
        self._source = source
        self.log = os.path.join(LOGS, source["name"] + ".log")
        self._processes: List[Process] = []
        self.look(marked)

    def look(self, marked: Dict[str, List[Process]]) -> None:
        named = [record for record in records.read_all() if record["name"] == self._source["name"]]
        for record in named:  # one that an older pi wrote may be in another folder
            self.log = record["log"]
        living = [record for record in named if records.lives(record, marked)]
        if living:
            newest = max(living, key=lambda record: record["since"])
            self.uid, self.is_launched, self.log = newest["uid"], bool(newest["pid"]), newest["log"]
        self._processes = marked.get(self.uid or "", []) or processes.find_unmarked(records.known_as(self._source))
        was_over, self.is_over = self.is_over, not living and not self._processes
        if self.is_over and not was_over:
            self.ended = time.monotonic()

    def is_surely_alive(self) -> bool:
        return any(processes.start_time(process.pid) == process.start for process in self._processes)


class Log:
    """A log that is being sent: `_position` is the offset of the next byte, `_head` the first bytes of the file."""

    def __init__(
        self, number: int, source: "protocol.LogSource", life: Life, query: Query, follow: bool, out: "Out"
    ) -> None:
        self.life, self.follow = life, follow
        self._number, self._source, self._query, self._out = number, source, query, out
        self._path = life.log
        self._resume = source["position"]
        self._file = -1
        self._inode = self._position = self._unsent = 0
        self._end: Optional[int] = None
        self._head = self._rest = b""
        self._is_mid_line = False  # the begin of the line was sent already
        self._not_ours = 0  # inode of the log of the previous model

    def require_something(self) -> None:
        """Refuse a log that does not exist and will not be created."""
        will_be = self.follow and not self.life.is_over
        if not self._resume and not will_be and not inode_of(self._path):
            raise Refused({"code": "no-log", "path": self._path})
        if inode_of(self._path) and not stat.S_ISREG(os.stat(self._path).st_mode):
            raise Refused({"code": "no-log", "path": self._path, "reason": "it is not a regular file"})

    def begin(self) -> None:
        """Find where to begin, and send the first event."""
        if self._resume and self._resume["length"]:
            self._go_to(self._resume)
        elif self.follow and not self.life.is_over and not self.life.is_launched:
            self._not_ours = inode_of(self._path)
        elif inode_of(self._path):
            self._open(self._path)
            if not self._resume:
                now = os.fstat(self._file)
                self._position = log_search.beginning(self._part, now.st_size, now.st_mtime, self._query)
        if self._file >= 0 and not self.follow:
            self._end = os.fstat(self._file).st_size
        begins: "protocol.LogBegins" = {
            "event": "begins",
            "uid": self.life.uid,
            "file": self._known(),
            "is_new": not self._resume,
            "alive": not self.life.is_over,
            "exists": self._file >= 0,
        }
        self._send_event(begins)
        if not self._resume:
            self.life.ended -= GRACE  # a model that had exited before is not waited for
        elif self.life.uid != self._source["uid"]:
            self.report("restarted")

    @contextlib.contextmanager
    def giving_up(self) -> Iterator[None]:
        """Report a pattern that takes too long for a line of this log, and exit."""
        try:
            yield
        except log_search.TooSlow:
            self.report("too-slow")
            wire.leave()

    def pass_on(self) -> int:
        """Send the next chunk, or change to the next file; return about how many bytes were read."""
        size = self._read()
        if self._file >= 0 and self._was_rewritten():
            self._start_over()
            return 1
        if not size and self._end is None:
            after = self._file_after()
            size = self._read()  # again: once a newer file exists, nothing more is written to this one
            if after and not size:
                self._send_begun_look()
                self._send_rest()
                self._open(after)
                self.report("rotated")
                return 1
        if size:
            self._position += size
            self._send(size)
            self._learn_head()
        return size

    def is_complete(self, now: float) -> bool:
        """Return, when everything was read, whether nothing will follow."""
        return not self.follow or (self.life.is_over and now - self.life.ended > GRACE)

    def end(self) -> None:
        self._send_begun_look()
        self._send_rest()
        self.report("ended")

    def report(self, event: "protocol.Change") -> None:
        self._send_event({"event": event, "uid": self.life.uid, "file": self._known()})

    def _send_event(self, event: "Union[protocol.LogEvent, protocol.LogBegins]") -> None:
        self._out.send(EVENT, self._number, self._position - len(self._rest), json.dumps(event).encode("ascii"))

    def _part(self, offset: int, size: int) -> bytes:
        """Read a part of the file, unless pi has disconnected: the file may be huge."""
        self._out.beat()
        if wire.stdin_ended(0):
            wire.leave()
        return os.pread(self._file, size, offset)

    def _read(self) -> int:
        if self._file < 0:
            return 0
        size = CHUNK if self._end is None else min(CHUNK, max(self._end - self._position, 0))
        size = os.preadv(self._file, [self._out.payload[:size]], self._position)
        return self._without_begun_look(size) if self._query.hides_looks and size else size

    def _send(self, size: int) -> None:
        """Send the bytes read, or the matching lines in them."""
        if self._query.matches is None:
            self._out.send_payload(DATA, self._number, self._position, size)
            return
        if self._query.hides_looks:
            self._send_without_looks(size)
            return
        data = self._rest + self._out.payload[:size].tobytes()
        cut = data.rfind(b"\n") + 1
        cut = cut if len(data) - cut < MAX_LINE else len(data)  # a longer line counts as complete
        self._rest = data[cut:]
        self._send_matching(data[:cut])

    def _send_without_looks(self, size: int) -> None:
        """Send all but the lines of pi's own looks; a line whose begin was sent already is none."""
        is_begun, self._is_mid_line = self._is_mid_line, self._out.payload[size - 1] != NEWLINE
        if not self._out.has(log_search.LOOK_WORD, size):
            self._out.send_payload(DATA, self._number, self._position, size)
            return
        data = self._out.payload[:size].tobytes()
        begin = (data.find(b"\n") + 1 or size) if is_begun else 0
        lines = data[begin:].split(b"\n")
        shown = data[:begin] + b"\n".join(line for line in lines if log_search.is_no_look(line))
        self._out.send(DATA, self._number, self._position, shown)

    def _without_begun_look(self, size: int) -> int:
        """Return how many bytes to take now: the begin of a line that may be a look is read again with its end."""
        last = self._out.payload[max(size - MAX_LOOK, 0) : size].tobytes()
        begun = last[last.rfind(b"\n") + 1 :]
        is_from_its_start = len(begun) < len(last) or (size < MAX_LOOK and not self._is_mid_line)
        return size - len(begun) if is_from_its_start and log_search.may_be_look(begun) else size

    def _send_begun_look(self) -> None:
        """Send the line that `_without_begun_look` has left, since its end will not come, unless it is a look."""
        if self._query.hides_looks and self._file >= 0:
            left = MAX_LOOK if self._end is None else min(MAX_LOOK, max(self._end - self._position, 0))
            begun = os.pread(self._file, left, self._position)
            self._position += len(begun)
            if begun and log_search.is_no_look(begun):
                self._out.send(DATA, self._number, self._position, begun)

    def _send_rest(self) -> None:
        """Send the incomplete last line of a file."""
        rest, self._rest = self._rest, b""
        if rest:
            self._send_matching(rest)

    def _send_matching(self, data: bytes) -> None:
        """Send the lines that match; if there are none for long, send only the offset."""
        matches = self._query.matches
        assert matches
        *lines, rest = data.split(b"\n")
        matching = [line + b"\n" for line in lines if matches(line)]
        matching += [rest] if rest and matches(rest) else []
        self._unsent += len(data)
        if matching or self._unsent > MAX_LINE:
            self._unsent = 0
            self._out.send(DATA, self._number, self._position - len(self._rest), b"".join(matching))

    def _open(self, path: str, position: int = 0) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._position = home.open_regular(path), position
        self._is_mid_line = False
        self._inode, self._head = os.fstat(self._file).st_ino, os.pread(self._file, HEAD, 0)

    def _learn_head(self) -> None:
        """Report the identity of the file again while it is shorter than `HEAD`."""
        if len(self._head) < HEAD:
            before, self._head = self._head, os.pread(self._file, HEAD, 0)
            if len(self._head) > len(before):
                self.report("grown")

    def _known(self) -> "protocol.FileId":
        """Return the identity of the file: its inode, which a copy does not have, and a checksum of its first bytes."""
        return {"inode": self._inode, "length": len(self._head), "sum": zlib.crc32(self._head)}

    def _reached(self) -> "protocol.LogPosition":
        known = self._known()
        return {"inode": known["inode"], "length": known["length"], "sum": known["sum"], "offset": self._position}

    def _was_rewritten(self) -> bool:
        is_shorter = os.fstat(self._file).st_size < self._position
        return is_shorter or os.pread(self._file, len(self._head), 0) != self._head

    def _start_over(self) -> None:
        """After a truncation, continue in the copy made before it; without a copy, at the beginning of the file."""
        copy = find(self._path, self._reached()) if self._end is None else None
        if copy:
            self._open(copy, self._position)
            return
        self._send_rest()
        self._is_mid_line = False
        self._position, self._head = 0, os.pread(self._file, HEAD, 0)
        self.report("truncated")

    def _go_to(self, position: "protocol.LogPosition") -> None:
        """Open the file that pi has read, at its position; if it is gone, report that and open the present file."""
        path = find(self._path, position)
        if path:
            self._open(path, position["offset"])
            return
        if inode_of(self._path):
            self._open(self._path)
        self.report("lost")

    def _file_after(self) -> Optional[str]:
        """Return the next file that is not empty."""
        if inode_of(self._path) in (0, self._inode, self._not_ours):
            return None
        files = generations(self._path)
        inodes = [inode_of(file) for file in files]
        newer = files[: inodes.index(self._inode)] if self._inode in inodes else [self._path]
        return next((file for file in reversed(newer) if size_of(file)), None)


def find(path: str, position: "protocol.LogPosition") -> Optional[str]:
    """Return the file that pi has read, or a copy of it: with the same first bytes, and long enough."""
    matching = [file for file in generations(path) if position["length"] and begins_like(file, position)]
    return min(matching, key=lambda file: inode_of(file) != position["inode"], default=None)


def begins_like(path: str, position: "protocol.LogPosition") -> bool:
    with contextlib.suppress(OSError), os.fdopen(home.open_regular(path), "rb") as file:
        is_long_enough: bool = os.fstat(file.fileno()).st_size >= position["offset"]
        return is_long_enough and zlib.crc32(file.read(position["length"])) == position["sum"]
    return False


def generations(path: str) -> List[str]:
    """Return a log and its rotated files, the newest first."""
    return [path] + [old for old in ("%s.%d" % (path, age) for age in range(1, OLDEST + 1)) if inode_of(old)]


def inode_of(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_ino
    return 0


def size_of(path: str) -> int:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size
    return 0


class Out:
    """stdout, without blocking. The agent exits when the reader of stdout has closed it, or stdin has ended.

    Bytes that are read into `payload` are sent without a copy.
    """

    def __init__(self) -> None:
        self._bytes = bytearray(HEADER.size + CHUNK)
        self._frame = memoryview(self._bytes)
        self.payload = self._frame[HEADER.size :]
        os.set_blocking(1, False)
        with contextlib.suppress(OSError):  # some sshds use sockets, and the user's limit for pipes may be reached
            fcntl.fcntl(1, F_SETPIPE_SZ, PIPE_SIZE)
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._poll.register(1, select.POLLOUT)
        self._beat_every, self._last_sent = wire.beats.every, time.monotonic()

    def beat(self) -> None:
        """Send a beat if nothing else was sent for too long."""
        if time.monotonic() - self._last_sent >= self._beat_every:
            self.send(BEAT, 0, 0, b"")

    def send(self, kind: int, number: int, offset: int, payload: bytes) -> None:
        self._write(memoryview(HEADER.pack(kind, number, len(payload), offset) + payload))

    def send_payload(self, kind: int, number: int, offset: int, size: int) -> None:
        HEADER.pack_into(self._frame, 0, kind, number, size, offset)
        self._write(self._frame[: HEADER.size + size])

    def has(self, word: bytes, size: int) -> bool:
        """Return whether a word is in the first bytes of the payload, without copying them."""
        return self._bytes.find(word, HEADER.size, HEADER.size + size) >= 0

    def _write(self, rest: memoryview) -> None:
        self._last_sent = time.monotonic()
        while rest:
            try:
                rest = rest[os.write(1, rest) :]
            except BlockingIOError:
                if 0 in dict(self._poll.poll()) and not os.read(0, 4096):
                    wire.leave()
            except BrokenPipeError:
                wire.leave()


class Watcher:
    """Waits for changes in the folder of the logs: with inotify, otherwise by polling."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._libc, self._inotify, self._is_watching = None, -1, False
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import ctypes

            self._libc = ctypes.CDLL(None)
            self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:
            self._poll.register(self._inotify, select.POLLIN)
        self._subscribe()

    def wait(self, seconds: float) -> None:
        if not self._is_watching:
            seconds = min(seconds, POLL)
            self._subscribe()
        for descriptor, _ in self._poll.poll(seconds * 1000):
            data = os.read(descriptor, 65536)
            if not data:
                wire.leave()

    def _subscribe(self) -> None:
        """Add an inotify watch, once the folder exists."""
        if self._libc and self._inotify >= 0:
            watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(LOGS), CHANGES)
            self._is_watching = watch >= 0

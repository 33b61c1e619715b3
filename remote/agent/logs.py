"""Pass on models' logs as they grow: through rotations, truncations and restarts, until the models are dead.

After one marked line stdout carries frames: `HEADER` and a payload. That of a DATA frame are bytes of the file as they
are (with a filter whole lines of it), that of an EVENT frame is JSON. The offset tells where in the file pi stands
after a frame; with what the last event says of the file, pi can go on from there over another connection.
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
from typing import TYPE_CHECKING, Dict, List, Literal, NoReturn, Optional, Union

from agent import home, log_search, processes, records, wire
from agent.home import LOGS
from agent.log_search import Query
from agent.processes import Process
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

FORMAT: "protocol.FrameHeader" = "!BHIQ"  # kind, number of the source, bytes of payload, offset in the file after it
HEADER = struct.Struct(FORMAT)
DATA: "protocol.FrameKind" = 0
EVENT: "protocol.FrameKind" = 1
BEAT: "protocol.FrameKind" = 2
CHUNK = 1 << 17  # bytes that are read and sent at a time
ROOM = 1 << 20  # bytes that a pipe to sshd may hold: fewer turns for each of us
HEAD = 1024  # first bytes of a file, by which it is known again: vLLM's first line has a time and a PID
LONGEST = 1 << 20  # bytes after which a line that is filtered counts as complete
OLDEST = 9  # NAME.log.9 is the oldest file that is looked for
CALM = 0.004  # seconds between two frames when lines come fast: thousands of tiny ones would keep pi busy
LOOK = 1.0  # seconds between two looks whether a model lives
POLL = 0.1  # seconds between two looks at files where inotify is missing, and at a model that may come back
GRACE = 2.0  # seconds in which it may
F_SETPIPE_SZ = 1031  # fcntl(2); Python has it since 3.10
CHANGES = 0x002 | 0x0C0 | 0x100  # inotify(7): modified, moved, created


def logs(request: "protocol.LogsRequest") -> NoReturn:
    """Pass on the logs of models: after `place` where pi has been before, else from the last `lines` since a moment
    that match (see `log_search`). With `grep` pass on only lines that match, without `follow` end with the file.
    """
    query, out, marked = log_search.query(request), Out(), processes.marked()
    opened = [
        Log(number, source, Life(source, marked), query, request["follow"], out)
        for number, source in enumerate(request["sources"])
    ]
    for log in opened:
        log.require_something()
    wire.emit({"result": {}})
    wire.beats.every = float("inf")  # from here on they are frames
    try:
        pass_on_all(opened, out)
    except OSError as error:
        sys.exit("cannot read the log: %s" % error)
    wire.leave()


def pass_on_all(opened: List["Log"], out: "Out") -> None:
    watcher = Watcher()
    for log in opened:
        log.begin()
    next_look = time.monotonic() + LOOK
    while opened:
        out.beat()
        sent = {log: log.pass_on() for log in opened}  # each gets its turn
        now = time.monotonic()
        if now >= next_look:
            see_who_lives(opened)
            next_look = now + (POLL if any(log.life.is_over for log in opened) else LOOK)
        for log in [log for log, size in sent.items() if not size and log.is_complete(now)]:
            log.end()
            opened.remove(log)
        if not opened:
            return
        if not any(sent.values()):
            watcher.wait(max(next_look - now, 0.0))
        elif max(sent.values()) < CHUNK and wire.stdin_ended(CALM):
            wire.leave()


def see_who_lives(opened: List["Log"]) -> None:
    """Look whether the models still run; at all processes only where none is left of those that we know."""
    doubtful = [log for log in opened if log.follow and not log.life.certainly_goes_on()]
    marked = processes.marked() if doubtful else {}
    for log in doubtful:
        before = log.life.uid
        log.life.look(marked)
        if log.life.uid != before:
            log.tell("restarted")


class Life:
    """The life of the model that bears a name: `uid` is that of the newest one that lives, else of the last that did.

    It is over since `ended`, on the monotonic clock.
    """

    def __init__(self, source: "protocol.LogSource", marked: Dict[str, List[Process]]) -> None:
        self.uid: Optional[str] = source["uid"] or records.uid_of(source["name"])
        self.is_over = self.is_launched = False
        self.ended = 0.0
        self._source = source
        self._processes: List[Process] = []
        self.look(marked)

    def look(self, marked: Dict[str, List[Process]]) -> None:
        named = [each for each in records.read_all() if each["name"] == self._source["name"]]
        living = [each for each in named if records.lives(each, marked)]
        if living:
            newest = max(living, key=lambda each: each["since"])
            self.uid, self.is_launched = newest["uid"], bool(newest["pid"])
        self._processes = marked.get(self.uid or "", []) or processes.find_unmarked(records.known_as(self._source))
        was_over, self.is_over = self.is_over, not living and not self._processes
        if self.is_over and not was_over:
            self.ended = time.monotonic()

    def certainly_goes_on(self) -> bool:
        return any(processes.start_time(each.pid) == each.start for each in self._processes)


class Log:
    """A log as far as it was passed on: `_position` is that of the next byte, `_head` how its file begins."""

    def __init__(
        self, number: int, source: "protocol.LogSource", life: Life, query: Query, follow: bool, out: "Out"
    ) -> None:
        self.life, self.follow = life, follow
        self._number, self._source, self._query, self._out = number, source, query, out
        self._path = os.path.join(LOGS, source["name"] + ".log")
        self._place = source["place"]
        self._file = -1
        self._inode = self._position = self._untold = 0
        self._end: Optional[int] = None
        self._head = self._rest = b""
        self._not_ours = 0  # inode of the log of a model before

    def require_something(self) -> None:
        """Refuse a log that neither is there nor will be."""
        will_be = self.follow and not self.life.is_over
        if not self._place and not will_be and not inode_of(self._path):
            raise Refused({"code": "no-log", "path": self._path})
        if inode_of(self._path) and not stat.S_ISREG(os.stat(self._path).st_mode):
            raise Refused({"code": "no-log", "path": self._path, "reason": "it is not a regular file"})

    def begin(self) -> None:
        """Find the place to read from, and tell how things are."""
        if self._place and self._place["length"]:
            self._go_to(self._place)
        elif self.follow and not self.life.is_over and not self.life.is_launched:
            self._not_ours = inode_of(self._path)
        elif inode_of(self._path):
            self._open(self._path)
            if not self._place:
                now = os.fstat(self._file)
                self._position = log_search.beginning(self._part, now.st_size, now.st_mtime, self._query)
        if self._file >= 0 and not self.follow:
            self._end = os.fstat(self._file).st_size
        begins: "protocol.LogBegins" = {
            "event": "begins",
            "uid": self.life.uid,
            "file": self._known(),
            "is_new": not self._place,
            "alive": not self.life.is_over,
            "exists": self._file >= 0,
        }
        self._send_event(begins)
        if not self._place:
            self.life.ended -= GRACE  # who was dead before we came is not waited for
        elif self.life.uid != self._source.get("uid"):
            self.tell("restarted")

    def pass_on(self) -> int:
        """Send what comes next, or turn to the file that comes after; return how many bytes that was, about."""
        size = self._read()
        if self._file >= 0 and self._was_rewritten():
            self._start_over()
            return 1
        if not size and self._end is None:
            after = self._file_after()
            size = self._read()  # once more: what comes now that there is another file is the rest of this one
            if after and not size:
                self._send_rest()
                self._open(after)
                self.tell("rotated")
                return 1
        if size:
            self._position += size
            self._send(size)
            self._learn_head()
        return size

    def is_complete(self, now: float) -> bool:
        """Tell, where there is nothing more to read, whether there never will be."""
        return not self.follow or (self.life.is_over and now - self.life.ended > GRACE)

    def end(self) -> None:
        self._send_rest()
        self.tell("ended")

    def tell(self, event: "Literal['grown', 'rotated', 'truncated', 'lost', 'restarted', 'ended']") -> None:
        self._send_event({"event": event, "uid": self.life.uid, "file": self._known()})

    def _send_event(self, event: "Union[protocol.LogEvent, protocol.LogBegins]") -> None:
        self._out.send(EVENT, self._number, self._position - len(self._rest), json.dumps(event).encode("ascii"))

    def _part(self, offset: int, size: int) -> bytes:
        """Read a part of the file, unless pi has gone: a file may be huge."""
        self._out.beat()
        if wire.stdin_ended(0):
            wire.leave()
        return os.pread(self._file, size, offset)

    def _read(self) -> int:
        if self._file < 0:
            return 0
        most = CHUNK if self._end is None else min(CHUNK, max(self._end - self._position, 0))
        return os.preadv(self._file, [self._out.payload[:most]], self._position)

    def _send(self, size: int) -> None:
        """Send what was read, or the lines of it that match."""
        if self._query.matches is None:
            self._out.send_payload(DATA, self._number, self._position, size)
            return
        data = self._rest + self._out.payload[:size].tobytes()
        cut = data.rfind(b"\n") + 1
        cut = cut if len(data) - cut < LONGEST else len(data)
        self._rest = data[cut:]
        self._send_matching(data[:cut])

    def _send_rest(self) -> None:
        """Send the last line of a file, which nobody completes any more."""
        rest, self._rest = self._rest, b""
        if rest:
            self._send_matching(rest)

    def _send_matching(self, data: bytes) -> None:
        """Send the lines that match, and now and then, where none does, how far we are."""
        matches = self._query.matches
        assert matches
        *lines, rest = data.split(b"\n")
        found = [line + b"\n" for line in lines if matches(line)]
        found += [rest] if rest and matches(rest) else []
        self._untold += len(data)
        if found or self._untold > LONGEST:
            self._untold = 0
            self._out.send(DATA, self._number, self._position - len(self._rest), b"".join(found))

    def _open(self, path: str, position: int = 0) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._position = home.open_regular(path), position
        self._inode, self._head = os.fstat(self._file).st_ino, os.pread(self._file, HEAD, 0)

    def _learn_head(self) -> None:
        """Tell more of how the file begins, as long as that is little."""
        if len(self._head) < HEAD:
            before, self._head = self._head, os.pread(self._file, HEAD, 0)
            if len(self._head) > len(before):
                self.tell("grown")

    def _known(self) -> "protocol.FileId":
        """Return by what a file is known again: its inode, which a copy has not, and how it begins."""
        return {"inode": self._inode, "length": len(self._head), "sum": zlib.crc32(self._head)}

    def _stands(self) -> "protocol.Place":
        known = self._known()
        return {"inode": known["inode"], "length": known["length"], "sum": known["sum"], "offset": self._position}

    def _was_rewritten(self) -> bool:
        is_shorter = os.fstat(self._file).st_size < self._position
        return is_shorter or os.pread(self._file, len(self._head), 0) != self._head

    def _start_over(self) -> None:
        """Go on in the copy that was made of the file before it was truncated, else at its new beginning."""
        copy = find(self._path, self._stands()) if self._end is None else None
        if copy:
            self._open(copy, self._position)
            return
        self._send_rest()
        self._position, self._head = 0, os.pread(self._file, HEAD, 0)
        self.tell("truncated")

    def _go_to(self, place: "protocol.Place") -> None:
        """Open the file that pi knows, where pi stands; if it is gone, say so and begin with the one that is there."""
        found = find(self._path, place)
        if found:
            self._open(found, place["offset"])
            return
        if inode_of(self._path):
            self._open(self._path)
        self.tell("lost")

    def _file_after(self) -> Optional[str]:
        """Return the file that comes after ours and has something in it."""
        if inode_of(self._path) in (0, self._inode, self._not_ours):
            return None
        files = generations(self._path)
        inodes = [inode_of(file) for file in files]
        newer = files[: inodes.index(self._inode)] if self._inode in inodes else [self._path]
        return next((file for file in reversed(newer) if size_of(file)), None)


def find(path: str, place: "protocol.Place") -> Optional[str]:
    """Return which file begins as it should and is long enough: the one that pi has read, else a copy of it."""
    fitting = [file for file in generations(path) if place["length"] and begins_like(file, place)]
    return min(fitting, key=lambda file: inode_of(file) != place["inode"], default=None)


def begins_like(path: str, place: "protocol.Place") -> bool:
    with contextlib.suppress(OSError), os.fdopen(home.open_regular(path), "rb") as file:
        is_long_enough: bool = os.fstat(file.fileno()).st_size >= place["offset"]
        return is_long_enough and zlib.crc32(file.read(place["length"])) == place["sum"]
    return False


def generations(path: str) -> List[str]:
    """Return a log and what it was rotated to, the newest first."""
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
    """stdout, which gets as much as it has room for. We end when nobody reads it any more, or stdin has ended.

    What is read into `payload` is sent without being copied.
    """

    def __init__(self) -> None:
        self._frame = memoryview(bytearray(HEADER.size + CHUNK))
        self.payload = self._frame[HEADER.size :]
        os.set_blocking(1, False)
        with contextlib.suppress(OSError):  # some sshds use sockets, and somebody else may have had all there is
            fcntl.fcntl(1, F_SETPIPE_SZ, ROOM)
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._poll.register(1, select.POLLOUT)
        self._beat_every, self._last_sent = wire.beats.every, time.monotonic()

    def beat(self) -> None:
        """Show pi that we work, if nothing else does."""
        if time.monotonic() - self._last_sent >= self._beat_every:
            self.send(BEAT, 0, 0, b"")

    def send(self, kind: int, number: int, offset: int, payload: bytes) -> None:
        self._write(memoryview(HEADER.pack(kind, number, len(payload), offset) + payload))

    def send_payload(self, kind: int, number: int, offset: int, size: int) -> None:
        HEADER.pack_into(self._frame, 0, kind, number, size, offset)
        self._write(self._frame[: HEADER.size + size])

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
    """Waits for changes in the folder of the logs: with inotify, else by looking again after a moment."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._libc, self._inotify, self._is_told = None, -1, False
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import ctypes

            self._libc = ctypes.CDLL(None)
            self._inotify = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._inotify >= 0:
            self._poll.register(self._inotify, select.POLLIN)
        self._subscribe()

    def wait(self, seconds: float) -> None:
        if not self._is_told:
            seconds = min(seconds, POLL)
            self._subscribe()
        for descriptor, _ in self._poll.poll(seconds * 1000):
            said = os.read(descriptor, 65536)
            if not said:
                wire.leave()

    def _subscribe(self) -> None:
        """Ask to be told, as soon as there is a folder."""
        if self._libc and self._inotify >= 0:
            watch = self._libc.inotify_add_watch(self._inotify, os.fsencode(LOGS), CHANGES)
            self._is_told = watch >= 0

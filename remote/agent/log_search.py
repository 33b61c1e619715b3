"""Find the offset at which to begin reading a log: at its last lines, at a moment, at matching lines.

`read(offset, size)` returns a part of the log, which is `end` bytes long. No function reads more than it needs.
"""

import re
import signal
import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple

from agent import wire
from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

BLOCK = 1 << 20
MAX_LINE = 1 << 20  # bytes of a line that are matched
STAMP_BLOCK = 1 << 16
STAMP_LENGTH = 128  # first bytes of a line, which contain its time
DAY = 86400.0
MATCH_LIMIT = 2.0  # seconds for one line
LOOK = 0.5  # seconds between two looks at a search
# `(EngineCore pid=123) INFO 11-23 13:31:46 [file.py:1] text`: vLLM logs no year.
STAMP = re.compile(rb"\n(?:\([^)\n]*\) )?[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ")

if TYPE_CHECKING:
    Read = Callable[[int, int], bytes]
    Matcher = Callable[[bytes], object]
    LocalTime = Tuple[int, ...]  # year, month, day, hour, minute, second


class TooSlow(Exception):
    """A pattern has searched one line for `MATCH_LIMIT` seconds."""


# `(APIServer pid=7) INFO:     127.0.0.1:4242 - "GET /health HTTP/1.1" 200 OK`: the survey asks on the loopback, whereas
# the guard's route is asked from everywhere.
LOOK_WORD = b'"GET /'  # of which few lines have one that are no looks
LOOK_LINE = re.compile(
    rb"(?:\(\w+ pid=\d+\) )?INFO: +"
    rb'(?:127\.0\.0\.1:\d+ - "GET /(?:health|metrics) HTTP|\S+ - "GET /\.well-known/pi-model[? ])'
)
LOOK_BEGINS = (b"(", b"I")
MAX_LOOK = 256  # bytes of such a line


class Query(NamedTuple):
    """Which earlier lines are requested: the last `lines` (None: all) that match, `since` seconds after 1970.

    `hides_looks`: all lines match but those of pi's own looks, which are to be recognised fast.
    """

    lines: Optional[int]
    since: Optional[float]
    matches: "Optional[Matcher]"
    hides_looks: bool = False


def query(request: "protocol.LogsRequest") -> Query:
    since, grep = request["since"], request["grep"]
    moment = moment_of(since) if since else None
    if grep or request["looks"]:
        return Query(request["lines"], moment, matcher_of(grep) if grep else None)
    return Query(request["lines"], moment, is_no_look, hides_looks=True)


def is_no_look(line: bytes) -> bool:
    """Return whether a line is not about a request with which pi looks at a model."""
    return LOOK_LINE.match(line) is None


def may_be_look(begin: bytes) -> bool:
    """Return whether the begin of a line may be that of a look."""
    return len(begin) < MAX_LOOK and begin.startswith(LOOK_BEGINS)


def moment_of(since: "protocol.Moment") -> float:
    """Return a moment in seconds since 1970, by this machine's clock: seconds `ago`, the latest `clock` time of day, a
    `local` time of this machine, or `utc`."""
    now = time.time()
    if "ago" in since:
        return now - float(since["ago"])
    if "utc" in since:
        return float(since["utc"])
    if "local" in since:
        return time.mktime(time.strptime(since["local"], "%Y-%m-%dT%H:%M:%S"))
    today = time.strftime("%Y-%m-%d ", time.localtime(now))
    moment = time.mktime(time.strptime(today + since["clock"], "%Y-%m-%d %H:%M:%S"))
    return moment if moment <= now else moment - DAY


def matcher_of(pattern: str) -> "Matcher":
    """Return a function that checks whether a line matches; for an ASCII pattern, lines are not decoded."""
    try:
        if pattern.isascii():
            return guarded(re.compile(pattern.encode("ascii")).search)
        search = re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as error:
        raise Refused({"code": "bad-pattern", "reason": str(error)}) from error
    return guarded(lambda line: search(line.decode("utf-8", "replace")))


def guarded(search: "Matcher") -> "Matcher":
    """End a search when pi has disconnected, or with `TooSlow` after `MATCH_LIMIT` seconds for one line.

    A pattern with nested repeats takes longer than any pod lives for some lines of 40 characters. Python's regular
    expressions look for signals while they search.
    """
    began: List[float] = []

    def look(number: int, frame: object) -> None:
        del number, frame
        if began and wire.stdin_ended(0):
            wire.leave()
        if began and time.monotonic() - began[0] > MATCH_LIMIT:
            raise TooSlow

    def matches(line: bytes) -> object:
        began.append(time.monotonic())
        try:
            return search(line)
        finally:
            began.clear()

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
    return matches


def beginning(read: "Read", end: int, changed: float, query: Query) -> int:
    """Return the offset of the first requested line; `changed` is the modification time of the log."""
    floor = 0 if query.since is None else first_since(read, end, changed, query.since)
    return floor if query.lines is None else last_lines(read, floor, end, query.lines, query.matches)


def last_lines(
    read: "Read", floor: int, end: int, count: int, matches: "Optional[Matcher]" = None, *, at_a_time: int = BLOCK
) -> int:
    """Return where the last (matching) lines begin; an incomplete last line counts.

    Of a line that is longer than `MAX_LINE`, the first bytes are matched: one line may be most of a log.
    """
    line_end, is_complete = end, False
    later, later_size = b"", 0  # of the line that begins in an earlier block: its first bytes, and how many it has
    begin = end
    while count and begin > floor:
        block_end, begin = begin, max(floor, begin - at_a_time)
        lines = [(part, len(part)) for part in read(begin, block_end - begin).split(b"\n")]
        part, size = lines.pop()
        lines.append(((part + later)[:MAX_LINE], size + later_size))
        later, later_size = lines.pop(0) if begin > floor else (b"", 0)
        for line, size in reversed(lines):
            if (is_complete or size) and (matches is None or matches(line)):
                count -= 1
                if not count:
                    return line_end - size
            line_end, is_complete = line_end - size - 1, True
    return floor if count else end


def first_since(read: "Read", end: int, changed: float, since: float) -> int:
    """Return where the first line begins that is not older, by bisection; only some lines have a time.

    Of a log without any time, the modification time decides for all lines.
    """
    moment = tuple(time.localtime(since)[:6])
    low, high, result = 0, end, end
    while low < high:
        middle = (low + high) // 2
        stamped = next_stamp(read, middle, high)
        if stamped is None:
            high = middle
        elif stamped[1] < moment:
            low = stamped[0] + 1
        else:
            result, high = stamped[0], middle
    if result == end and changed >= since and next_stamp(read, 0, end) is None:
        return 0
    return result


def next_stamp(
    read: "Read", begin: int, end: int, *, at_a_time: int = STAMP_BLOCK
) -> "Optional[Tuple[int, LocalTime]]":
    """Return (offset, time) of the next line with a time that begins in this part."""
    for at in range(begin, end, at_a_time):
        size = min(at_a_time, end - at)
        text = (read(at - 1, 1) if at else b"\n") + read(at, size + STAMP_LENGTH)
        match = STAMP.search(text)
        if match and match.start() < size:
            return at + match.start(), with_year([int(number) for number in match.groups()])
    return None


def with_year(stamp: List[int]) -> "LocalTime":
    """Add the year to a time of the log: the latest year for which it is at most a day in the future."""
    soon = time.localtime(time.time() + DAY)
    year = soon.tm_year if tuple(stamp[:2]) <= (soon.tm_mon, soon.tm_mday) else soon.tm_year - 1
    return (year, *stamp)

"""Find out where in a log to begin: at its last lines, at a moment, at what matches.

A log is what `read(offset, size)` returns parts of, and `end` bytes long; nothing here reads all of it without need.
"""

import re
import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple

from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

BLOCK = 1 << 20
STAMP_BLOCK = 1 << 16
STAMP_LENGTH = 128  # bytes in which the time of a line stands
DAY = 86400.0
# `(EngineCore pid=123) INFO 11-23 13:31:46 [file.py:1] text`: vLLM gives no year.
STAMP = re.compile(rb"\n(?:\([^)\n]*\) )?[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ")

Read = Callable[[int, int], bytes]
Matches = Callable[[bytes], object]
Moment = Tuple[int, ...]  # year, month, day, hour, minute, second, as the clock on the pod's wall shows them


class Query(NamedTuple):
    """What is asked for of the past: the last `lines` (None: all) that match, `since` seconds after 1970."""

    lines: Optional[int]
    since: Optional[float]
    matches: Optional[Matches]


def query(request: "protocol.LogsRequest") -> Query:
    since, grep = request["since"], request["grep"]
    return Query(request["lines"], moment_of(since) if since else None, matcher_of(grep) if grep else None)


def moment_of(since: "protocol.Moment") -> float:
    """Return a moment by this machine's clock: so many seconds `ago`, at a time of the `clock` (the last one that
    was), at a `local` time here, or in seconds since 1970 (`utc`)."""
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


def matcher_of(pattern: str) -> Matches:
    """Return what tells whether a line matches; where the pattern is plain ASCII the line need not be decoded."""
    try:
        if pattern.isascii():
            return re.compile(pattern.encode("ascii")).search
        search = re.compile(pattern).search
    except re.error as error:
        raise Refused({"code": "bad-pattern", "reason": str(error)}) from error
    return lambda line: search(line.decode("utf-8", "replace"))


def beginning(read: Read, end: int, changed: float, query: Query) -> int:
    """Return the offset of the first line that is asked for; the log has last `changed` then."""
    floor = 0 if query.since is None else first_since(read, end, changed, query.since)
    return floor if query.lines is None else last_lines(read, floor, end, query.lines, query.matches)


def last_lines(
    read: Read, floor: int, end: int, count: int, matches: Optional[Matches] = None, *, at_a_time: int = BLOCK
) -> int:
    """Return where the last lines (that match) begin; one without a line break at the end is one, too."""
    later, block_end = b"", end
    while count and block_end > floor:
        block_begin = max(floor, block_end - at_a_time)
        block = read(block_begin, block_end - block_begin) + later
        at, lines = block_begin + len(block), block.split(b"\n")
        later = b""
        if block_begin > floor:  # the first line begins in the block before
            later = lines.pop(0) + (b"\n" if lines else b"")
        for number, line in enumerate(reversed(lines)):
            at -= len(line) + (1 if number else 0)
            if (number or line) and (matches is None or matches(line)):
                count -= 1
                if not count:
                    return at
        block_end = block_begin
    return floor if count else end


def first_since(read: Read, end: int, changed: float, since: float) -> int:
    """Return where the first line begins that is not older, by bisection; only some lines have a time.

    A log without any time is new enough as a whole, or not at all.
    """
    moment = tuple(time.localtime(since)[:6])
    low, high, found = 0, end, end
    while low < high:
        middle = (low + high) // 2
        stamped = next_stamp(read, middle, high)
        if stamped is None:
            high = middle
        elif stamped[1] < moment:
            low = stamped[0] + 1
        else:
            found, high = stamped[0], middle
    if found == end and changed >= since and next_stamp(read, 0, end) is None:
        return 0
    return found


def next_stamp(read: Read, begin: int, end: int, *, at_a_time: int = STAMP_BLOCK) -> Optional[Tuple[int, Moment]]:
    """Return the next line with a time that begins in this part: where, and its time."""
    for at in range(begin, end, at_a_time):
        size = min(at_a_time, end - at)
        text = (read(at - 1, 1) if at else b"\n") + read(at, size + STAMP_LENGTH)
        match = STAMP.search(text)
        if match and match.start() < size:
            return at + match.start(), with_year([int(number) for number in match.groups()])
    return None


def with_year(stamp: List[int]) -> Moment:
    """Complete a time: it is not in the future, but for clocks that differ a little."""
    soon = time.localtime(time.time() + DAY)
    year = soon.tm_year if tuple(stamp[:2]) <= (soon.tm_mon, soon.tm_mday) else soon.tm_year - 1
    return (year, *stamp)

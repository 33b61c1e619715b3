"""Find the offset at which to begin reading a log: at its last lines, at a moment, at matching lines.

`read(offset, size)` returns a part of the log, which is `end` bytes long. No function reads more than it needs.
"""

import re
import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Optional, Tuple

from agent.wire import Refused

if TYPE_CHECKING:
    from agent import protocol

BLOCK = 1 << 20
STAMP_BLOCK = 1 << 16
STAMP_LENGTH = 128  # first bytes of a line, which contain its time
DAY = 86400.0
# `(EngineCore pid=123) INFO 11-23 13:31:46 [file.py:1] text`: vLLM logs no year.
STAMP = re.compile(rb"\n(?:\([^)\n]*\) )?[A-Z]+ (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ")

Read = Callable[[int, int], bytes]
Matcher = Callable[[bytes], object]
LocalTime = Tuple[int, ...]  # year, month, day, hour, minute, second


class Query(NamedTuple):
    """Which earlier lines are requested: the last `lines` (None: all) that match, `since` seconds after 1970."""

    lines: Optional[int]
    since: Optional[float]
    matches: Optional[Matcher]


def query(request: "protocol.LogsRequest") -> Query:
    since, grep = request["since"], request["grep"]
    return Query(request["lines"], moment_of(since) if since else None, matcher_of(grep) if grep else None)


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


def matcher_of(pattern: str) -> Matcher:
    """Return a function that checks whether a line matches; for an ASCII pattern, lines are not decoded."""
    try:
        if pattern.isascii():
            return re.compile(pattern.encode("ascii")).search
        search = re.compile(pattern).search
    except re.error as error:
        raise Refused({"code": "bad-pattern", "reason": str(error)}) from error
    return lambda line: search(line.decode("utf-8", "replace"))


def beginning(read: Read, end: int, changed: float, query: Query) -> int:
    """Return the offset of the first requested line; `changed` is the modification time of the log."""
    floor = 0 if query.since is None else first_since(read, end, changed, query.since)
    return floor if query.lines is None else last_lines(read, floor, end, query.lines, query.matches)


def last_lines(
    read: Read, floor: int, end: int, count: int, matches: Optional[Matcher] = None, *, at_a_time: int = BLOCK
) -> int:
    """Return where the last (matching) lines begin; an incomplete last line counts."""
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


def next_stamp(read: Read, begin: int, end: int, *, at_a_time: int = STAMP_BLOCK) -> Optional[Tuple[int, LocalTime]]:
    """Return (offset, time) of the next line with a time that begins in this part."""
    for at in range(begin, end, at_a_time):
        size = min(at_a_time, end - at)
        text = (read(at - 1, 1) if at else b"\n") + read(at, size + STAMP_LENGTH)
        match = STAMP.search(text)
        if match and match.start() < size:
            return at + match.start(), with_year([int(number) for number in match.groups()])
    return None


def with_year(stamp: List[int]) -> LocalTime:
    """Add the year to a time of the log: the latest year for which it is at most a day in the future."""
    soon = time.localtime(time.time() + DAY)
    year = soon.tm_year if tuple(stamp[:2]) <= (soon.tm_mon, soon.tm_mday) else soon.tm_year - 1
    return (year, *stamp)

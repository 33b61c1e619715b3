"""Where to begin reading a log."""

import random
import re
import time

import pytest
from agent import log_search as search


def read_from(log: bytes) -> "search.Read":
    return lambda offset, size: log[offset : offset + size]


def some_log(chance: random.Random) -> bytes:
    return b"".join(chance.choice([b"a", b"bc", b"\n", b"\n\n", b"a\n"]) for _ in range(chance.randrange(40)))


@pytest.mark.parametrize("at_a_time", [1, 2, 7, 1000])
def test_the_last_lines_are_those_that_tail_shows(at_a_time: int) -> None:
    chance = random.Random(at_a_time)
    for _ in range(100):
        log = some_log(chance)
        lines = re.findall(rb"[^\n]*\n|[^\n]+", log)
        for count in range(1, 6):
            at = search.last_lines(read_from(log), 0, len(log), count, at_a_time=at_a_time)
            assert log[at:] == b"".join(lines[-count:]), (log, count)
            matching = [line for line in lines if b"a" in line][-count:]
            at = search.last_lines(read_from(log), 0, len(log), count, re.compile(b"a").search, at_a_time=at_a_time)
            assert [line for line in re.findall(rb"[^\n]*\n|[^\n]+", log[at:]) if b"a" in line] == matching
        assert search.last_lines(read_from(log), 0, len(log), 0) == len(log)


def local(moment: float) -> str:
    return f"INFO {time.strftime('%m-%d %H:%M:%S', time.localtime(moment))} [a.py:1] text\n"


def test_the_first_line_since_a_moment_is_found_among_lines_without_a_time() -> None:
    chance = random.Random(2)
    now = float(int(time.time()))
    for _ in range(200):
        moments = sorted(now - chance.randrange(0, 3 * 86400) for _ in range(chance.randrange(1, 20)))
        pieces: list[tuple[float | None, str]] = [(moment, local(moment)) for moment in moments]
        for _ in range(chance.randrange(30)):
            pieces.insert(chance.randrange(len(pieces) + 1), (None, 'INFO:     127.0.0.1 - "GET /health" 200\n'))
        log = "".join(text for _, text in pieces).encode()
        since = now - chance.randrange(0, 3 * 86400)
        young = [number for number, (moment, _) in enumerate(pieces) if moment is not None and moment >= since]
        expected = "".join(text for _, text in pieces[young[0] :]).encode() if young else b""
        assert log[search.first_since(read_from(log), len(log), now, since) :] == expected


def test_a_time_that_is_split_between_two_reads_is_found() -> None:
    log = ("x" * 10 + "\n" + local(time.time())).encode()
    for size in range(1, len(log)):
        found = search.next_stamp(read_from(log), 0, len(log), at_a_time=size)
        assert found
        assert found[0] == 11


def test_a_log_without_times_counts_by_its_modification_time() -> None:
    log = b"INFO:     Started\n" * 10
    now = time.time()
    assert search.first_since(read_from(log), len(log), now, now - 60) == 0
    assert search.first_since(read_from(log), len(log), now - 120, now - 60) == len(log)


def test_a_time_without_a_year_is_in_the_past() -> None:
    now = time.localtime()
    tomorrow, in_a_week = time.localtime(time.time() + 3600), time.localtime(time.time() + 7 * 86400)
    assert search.with_year([now.tm_mon, now.tm_mday, 0, 0, 0])[0] == now.tm_year
    assert search.with_year([tomorrow.tm_mon, tomorrow.tm_mday, 0, 0, 0])[0] == tomorrow.tm_year
    assert search.with_year([in_a_week.tm_mon, in_a_week.tm_mday, 0, 0, 0])[0] == in_a_week.tm_year - 1


def test_a_time_of_day_is_the_latest_one_in_the_past() -> None:
    now = time.time()
    for minutes in (-30, 30):
        clock = time.strftime("%H:%M:%S", time.localtime(now + minutes * 60))
        moment = search.moment_of({"clock": clock})
        assert now - 86400 - 5 < moment <= now + 5
        assert time.strftime("%H:%M:%S", time.localtime(moment)) == clock

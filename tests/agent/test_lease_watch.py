"""What counts as work, and when a lease ends: computed, with any clock."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agent import home, lease_ends, lease_watch, leases, processes
from agent.lease_watch import Sight, Watch
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import PROPERTY

if TYPE_CHECKING:
    from agent import protocol

LEASE = 60.0
QUIET = [0.0, 0.0, 5.0, 100.0, 50.0]
SIGHTS = st.sampled_from(
    [
        Sight(True, QUIET),
        Sight(True, [1.0, 0.0, 5.0, 100.0, 50.0]),
        Sight(True, [0.0, 2.0, 5.0, 100.0, 50.0]),
        Sight(True, [0.0, 0.0, 6.0, 100.0, 50.0]),
        Sight(True, [0.0, 0.0, 5.0, 101.0, 50.0]),
        Sight(True),
    ]
)


TWO_ENGINES = b"""\
vllm:num_requests_running{engine="0"} 1
vllm:num_requests_running{engine="1"} 2
vllm:num_requests_waiting{engine="0"} 4
vllm:generation_tokens_total{engine="1"} 7
vllm:request_success_total{finished_reason="stop"} 3
vllm:request_success_total{finished_reason="abort"} 1
"""


def state(phase: "protocol.LeasePhase" = "loading", since: float = 0.0) -> "protocol.LeaseState":
    return {"pid": 1, "start": 1, "phase": phase, "since": since, "counters": None}


@PROPERTY
@given(st.lists(st.tuples(st.floats(0.1, 20), SIGHTS), max_size=40))
def test_a_lease_ends_only_after_all_its_time_with_the_same_counters_and_no_request(
    looks: list[tuple[float, Sight]],
) -> None:
    now, current, quiet_since = 0.0, state(), None
    before: list[float] | None = None
    for seconds, sight in looks:
        now += seconds
        current = lease_watch.seen(current, sight, now)
        if sight.work is None or any(sight.work[:2]):
            quiet_since, before = None, sight.work and sight.work[2:]
        elif quiet_since is None or sight.work[2:] != before:
            quiet_since, before = now, sight.work[2:]
        rest = lease_watch.left(current, LEASE, now)
        if current["phase"] == "loading":
            assert rest is not None
            assert rest > LEASE  # a load is not idle time
        elif quiet_since is None:
            assert rest is None
        else:
            assert rest == LEASE - (now - quiet_since)


def test_a_load_that_never_ends_is_ended_in_the_end() -> None:
    current = lease_watch.seen(state(), Sight(True), lease_watch.LONGEST_LOAD)
    assert lease_watch.left(current, LEASE, lease_watch.LONGEST_LOAD) == 0
    assert lease_watch.left(lease_watch.seen(current, Sight(True, QUIET), 9e9), LEASE, 9e9) == LEASE


@pytest.mark.parametrize(
    ("metrics", "work"),
    [
        (b"", None),
        (b"vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n", None),  # --disable-log-stats, or another server
        (
            TWO_ENGINES,
            [3.0, 4.0, 4.0, 7.0, 0.0],
        ),
    ],
    ids=["nothing", "without-counters", "two-engines"],
)
def test_the_work_of_all_engines_counts_and_without_counters_it_is_unknown(
    metrics: bytes, work: list[float] | None
) -> None:
    assert lease_watch.work_in(metrics) == work


def test_short_leases_are_looked_after_more_often() -> None:
    assert [lease_watch.between_looks(seconds) for seconds in (1, 60, 300, 86400)] == [0.5, 3.0, 15.0, 15.0]


@pytest.mark.parametrize("jump", [-1e9, 1e9, 0], ids=["back", "forward", "none"])
def test_a_jump_of_the_time_of_day_changes_nothing(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "FOLDER", str(tmp_path))
    monkeypatch.setattr(lease_ends, "ENDED", str(tmp_path / "ended.jsonl"))
    leases.write({"uid": "u", "name": "q", "seconds": LEASE, "then": None, "life": leases.life()})
    own = os.getpid()
    leases.write_state("u", state() | {"pid": own, "start": processes.start_time(own)})
    now = [1000.0]
    watch = Watch("u", lambda: now[0], lambda _: Sight(True, QUIET))
    assert watch.look() == 3.0
    at = time.time()
    monkeypatch.setattr(time, "time", lambda: at + jump)
    now[0] += LEASE - 1
    assert watch.look() == 1.0
    assert lease_ends.read_ends() == []
    assert Path(home.HOME) not in tmp_path.parents


def test_the_time_that_a_machine_sleeps_does_not_count() -> None:
    """The clock is the monotonic one of Linux, which stands still in the meantime: pi's own uptime does not."""
    assert Watch("u").clock is time.monotonic

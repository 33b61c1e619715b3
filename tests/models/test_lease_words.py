"""What is said about leases, and how one has ended a model."""

from datetime import datetime
from typing import Any

import pytest

from pi_cli.models import lease_words
from pi_cli.pods.reports import Lease, LeaseEnd
from pi_cli.store.records import Price


def ended(price: Price | None = None, **changes: Any) -> str:
    facts: dict[str, Any] = {
        "at": datetime(2026, 1, 31, 3, 12).astimezone().timestamp(),
        "uid": "u",
        "name": "q",
        "why": "idle",
        "idle": 2700.4,
        "outcome": "stopped",
        "freed": None,
        "pod": "billed",
        "reason": "",
    }
    return lease_words.ended(LeaseEnd(**facts | changes), price)


def lease(**changes: Any) -> Lease:
    facts: dict[str, Any] = {
        "uid": "u",
        "name": "q",
        "seconds": 2700.0,
        "left": None,
        "phase": "silent",
        "phase_seconds": 10.0,
        "then": None,
        "watcher": "lives",
    }
    return Lease(**facts | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "ended after 45m idle, 2026-01-31 03:12; the pod is still billed"),
        ({"pod": "stopped"}, "ended after 45m idle, 2026-01-31 03:12; the pod was stopped"),
        ({"pod": "stopped", "off": 7200.0}, "ended after 45m idle, 2026-01-31 03:12; the pod was stopped for 2h"),
        (
            {"pod": "kept", "others": ("a", "b")},
            "ended after 45m idle, 2026-01-31 03:12; the pod was not stopped: `a`, `b` needed it",
        ),
        (
            {"pod": "failed", "reason": "no answer"},
            "ended after 45m idle, 2026-01-31 03:12; the pod was not stopped, and is billed: no answer",
        ),
        (
            {"why": "load", "idle": 21600.0},
            "was ended because it was not ready after 6h, 2026-01-31 03:12; the pod is still billed",
        ),
        ({"why": "died", "pod": "stopped"}, "had died 45m before 2026-01-31 03:12; the pod was stopped"),
        (
            {"outcome": "stuck"},
            "ended after 45m idle, 2026-01-31 03:12, but has a process that cannot be killed; the pod is still billed",
        ),
    ],
    ids=["billed", "stopped", "off", "kept", "failed", "load", "died", "stuck"],
)
def test_an_end_says_when_why_and_what_became_of_the_bill(changes: dict[str, Any], said: str) -> None:
    assert ended(**changes) == said


def test_a_pod_with_a_price_says_what_its_time_off_has_saved() -> None:
    said = ended(Price(2.49, "$"), pod="stopped", off=6.2 * 3600)
    assert said.endswith("; the pod was stopped for 6h12m, which saved ≈ $15")
    assert "saved" not in ended(Price(2.49, "$"), pod="stopped", off=1.0)


def test_an_end_of_today_has_the_time_of_day_alone() -> None:
    now = datetime.now().astimezone()
    assert f"idle, {now:%H:%M};" in ended(at=now.timestamp())


def test_the_time_left_is_shown_or_why_it_does_not_run() -> None:
    assert lease_words.left(lease(phase="idle", left=2640.0)) == "44m"
    assert lease_words.left(lease()) == "no answer"
    assert lease_words.left(lease(phase="loading")) == "not ready"


def test_only_what_is_unusual_is_remarked() -> None:
    assert lease_words.remarks(lease(phase="idle", left=1.0), "dc1") == []
    assert lease_words.remarks(lease(), "dc1") == []  # a short silence
    [said] = lease_words.remarks(lease(phase_seconds=10800.0), "dc1")
    assert said == "`q` has not reported its work for 3h, so its lease does not end it"
    [said] = lease_words.remarks(lease(phase="idle", left=1.0, watcher="dead"), "dc1")
    assert said.endswith("`pi lease q 45m --pod dc1` starts it again")

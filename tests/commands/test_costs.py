"""What a pod costs, as `pi pods`, `pi list` and `pi pods remove` show it."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.commands.served import Served
from tests.conftest import Pi, pods_json

pytestmark = pytest.mark.xdist_group("costs")


def ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours, seconds=9)).isoformat(timespec="seconds")


def give(name: str, **facts: Any) -> None:
    """Write facts of a pod into `pods.json`."""
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = json.loads(path.read_text())
    state["pods"][name] |= facts
    path.write_text(json.dumps(state))


def test_a_pod_without_a_request_for_hours_is_named_with_what_they_cost(pi: Pi, served: Served) -> None:
    served.started(pi, "q")
    give("dc1", price=2.49, currency="$", since=ago(31))
    assert pi("list", "--pod", "dc1").err == "dc1: $2.49/h, 31 h, ≈ $77 since setup\n"
    [record] = (served.pod.home / ".pi/models").glob("*.json")
    five_hours_ago = datetime.now(UTC).timestamp() - 5 * 3600 - 60
    os.utime(record, (five_hours_ago, five_hours_ago))
    quiet = "dc1: $2.49/h, 31 h, ≈ $77 since setup\ndc1: no request for 5 h, ≈ $12\n"
    listed = pi("list", "--pod", "dc1")
    assert listed.err == quiet
    assert "$" not in listed.out, "the table is data"
    assert pi("pods").err == quiet, "from what the last look has found"
    [row] = pi("list", "--pod", "dc1", "--json").json
    assert (row["price"], row["currency"], row["idle_seconds"] // 3600) == (2.49, "$", 5)
    assert row["estimate"] == pytest.approx(77.2, abs=0.2)
    os.utime(record)  # as the guard does at a request
    assert pi("pods", "--check").err.count("no request") == 0


def test_without_a_price_nothing_is_shown_and_nothing_is_written(pi: Pi, served: Served) -> None:
    served.started(pi, "q")
    give("dc1", since=ago(31))
    before = pods_json()
    assert pi("list", "--pod", "dc1").err == ""
    assert pi("pods").err == ""
    assert pods_json() == before
    [first, _] = pi("pods", "--json").json
    assert (first["price"], first["currency"], first["estimate"]) == (None, None, None)


def test_remove_says_what_the_pod_has_cost_and_that_pi_does_not_end_the_billing(pi: Pi, served: Served) -> None:
    give("dc2", price=1.1, currency="£", since=ago(100))
    result = pi("pods", "remove", "dc2", "--yes")
    assert "`dc2` was up for about 4 d, ≈ £110 at £1.10/h; pi does not stop the provider's billing" in result.out
    assert served.pod


def test_a_price_that_is_not_one_is_refused_before_anything_else_happens(pi: Pi) -> None:
    result = pi("pods", "setup", "dc1", "ssh root@192.0.2.1", "--price", "cheap")
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: `cheap` is not a price per hour\nhint: ")


def test_the_list_of_all_pods_without_pods_says_what_to_do_next(pi: Pi) -> None:
    result = pi("list", "--all")
    assert (result.code, result.out) == (0, "")
    assert result.err == 'note: there are no pods yet; set one up with `pi pods setup NAME "ssh root@HOST"`\n'
    assert pi("list", "--all", "--json").json == []
    assert pi("list", "--all", "--watch", "--json").code == 2

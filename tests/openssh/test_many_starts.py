"""Fifty starts at once on four pods: every model has a port and a share of a GPU of its own, or there is no room."""

import json
from collections import Counter

import pytest

from tests.conftest import Pi, pods_json
from tests.openssh.at_work import begin, ended, living, records
from tests.openssh.conftest import Prepare

pytestmark = pytest.mark.timeout(600)

PODS = ("dc1", "dc2", "dc3", "dc4")
SMALL = "Qwen/Qwen3-0.6B"
SHARE = 0.15  # of a GPU: six models on each of eight, so that two of fifty find no room


def test_fifty_starts_at_once_never_clash(pi: Pi, prepare: Prepare) -> None:
    """Faults 7 and 31."""
    pods = {name: prepare(name) for name in PODS}
    for pod in pods.values():
        (pod.home / ".demo/vllm.json").write_text('{"seconds": 0.2}')
    starts = [
        begin("start", SMALL, "--name", f"m{number}", "--pod", PODS[number % 4], "--memory", f"{SHARE}", "--gpus", "1")
        for number in range(50)
    ]
    ends = [ended(start, timeout=400) for start in starts]
    refused = [end for end in ends if end.code]
    assert {end.code for end in refused} <= {4}, [end.err for end in refused]
    assert all("Traceback" not in end.err for end in ends)
    assert len(refused) == 2, [end.err for end in refused]
    listed = pi("list", "--all", "--json").json
    assert Counter(each["status"] for each in listed) == {"ready": 48}
    for name, pod in pods.items():
        placed = [json.loads(record) for record in records(pod)]
        assert len({record["port"] for record in placed}) == len(placed) == 12
        assert Counter(record["gpu"] for record in placed) == {"0": 6, "1": 6}
        assert set(pods_json()["pods"][name]["models"]) == {record["name"] for record in placed}
    stopped = pi("stop", "--all", *(word for name in PODS for word in ("--pod", name)))
    assert stopped.code == 0, stopped.err
    assert stopped.out.count("stopped") == 48
    assert [living(pod) for pod in pods.values()] == [[], [], [], []]

"""A pod that answers nonsense, hangs, or has a broken entry, beside a pod that is well: that one is served as ever."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json, register
from tests.hostile import answers
from tests.pods.scripted import HANGS, SAYS_NONSENSE, put_answer, script, script_by_model

NONSENSE = "pod `broken` gave an answer that pi does not understand: text that is not JSON"

KEPT = {"model": "m/m", "port": 8001, "gpu": "0", "pid": 4711}


@pytest.fixture(scope="module")
def machines() -> Iterator[tuple[EmbeddedPod, EmbeddedPod]]:
    with EmbeddedPod() as good, EmbeddedPod() as broken:
        for program in ("hf", "vllm"):
            (good.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
        yield good, broken


@pytest.fixture
def good(machines: tuple[EmbeddedPod, EmbeddedPod]) -> EmbeddedPod:
    """The pod `good`, which is active, beside `broken`, which answers nonsense, and `typo`, whose entry is broken."""
    good, broken = machines
    register("good", good, count=2)
    register("broken", broken, count=2)
    script(broken, SAYS_NONSENSE)
    path = Path(os.environ["PI_CONFIG_DIR"], "pods.json")
    state = pods_json()
    state["pods"]["typo"] = {"ssh": "ssh 'root@1.2.3.4", "gpus": [], "models": {"kept": KEPT}}
    path.write_text(json.dumps(state))
    return good


@pytest.fixture
def broken(good: EmbeddedPod, machines: tuple[EmbeddedPod, EmbeddedPod]) -> EmbeddedPod:
    del good
    return machines[1]


def is_downloading(pod: EmbeddedPod, **changes: Any) -> Path:
    """Put a record on the pod as a start leaves it while it downloads: no process belongs to it yet."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = {
        **answers.RECORD,
        "peers": [],
        "role": None,
        "boot": boot,
        "machine": "",
        "pid": 0,
        "since": 0.0,
        "touched": 1e9,
        "progress": [5, 10],
        "ready": False,
    }
    path = pod.home / ".pi" / "models" / f"{answers.UID}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | changes))
    return path


def test_the_others_are_listed_and_each_failure_is_named(pi: Pi, good: EmbeddedPod) -> None:
    is_downloading(good)
    table, listed = pi("list", "--all"), pi("list", "--all", "--json")
    rows = [["good", "q", "starting"], ["typo", "kept", "unreachable"]]
    assert [row.split()[:3] for row in table.out.splitlines()[1:]] == rows
    assert [[each["pod"], each["name"], each["status"]] for each in listed.json] == rows
    checked = pi("pods", "--check", "--json")
    statuses = {each["name"]: each["check"]["status"] for each in checked.json}
    assert statuses == {"good": "changed", "broken": "unknown", "typo": "unreachable"}
    for result in (table, listed, checked):
        assert result.code == 2, "that of the broken entry, the higher one"
        assert f"error: {NONSENSE}\n" in result.err
        assert "error: pod `typo`: cannot use this ssh command: the quote is not closed" in result.err
        assert '`pi pods setup typo "ssh root@HOST"`' in result.err
        assert "Traceback" not in result.err
    alone = pi("list", "--pod", "good", "--pod", "broken")
    assert (alone.code, "good" in alone.out) == (1, True)


def test_a_pod_that_hangs_is_given_up_and_the_others_are_listed(pi: Pi, good: EmbeddedPod, broken: EmbeddedPod) -> None:
    is_downloading(good)
    script(broken, HANGS)
    began = time.monotonic()
    result = pi("list", "--json", "--pod", "good", "--pod", "broken", PI_CONNECT_TIMEOUT="1")
    assert time.monotonic() - began < 20
    assert [(each["pod"], each["name"]) for each in result.json] == [("good", "q")]
    assert result.code == 3
    assert "cannot reach pod `broken`: it answers SSH, but its python3 hangs (it sent nothing for 2 s)" in result.err


def test_a_broken_record_is_named_once_and_the_other_models_are_listed(pi: Pi, good: EmbeddedPod) -> None:
    path = is_downloading(good)
    wrong = {"gpu": {"gpu": [0]}, "pid": {"pid": "7"}, "since": {"since": "x"}, "port": {"port": None}}
    for key, change in wrong.items():
        record = json.loads(path.read_text()) | {"uid": key} | change
        path.with_name(f"{key}.json").write_text(json.dumps(record))
    path.with_name("cut.json").write_text('{"uid"')
    os.mkfifo(path.with_name("fifo.json"))
    result = pi("list", "--json")
    assert result.code == 0, result.err
    assert [each["name"] for each in result.json] == ["q"]
    skipped = [line for line in result.err.splitlines() if "skipped the record" in line]
    reasons = {line.partition(".pi/models/")[2] for line in skipped}
    assert len(skipped) == len(reasons) == 6
    assert {f"{key}.json: its `{key}` is missing or wrong" for key in wrong} < reasons
    assert "cut.json: it is not JSON" in reasons
    for name in (*wrong, "cut", "fifo"):
        path.with_name(f"{name}.json").unlink()


def test_a_start_and_a_stop_leave_the_good_pod_alone(pi: Pi, good: EmbeddedPod, broken: EmbeddedPod) -> None:
    """The broken pod turns to nonsense once the good one has launched vLLM."""
    for record in (good.home / ".pi" / "models").glob("*.json"):
        record.unlink()
    log = good.home / ".vllm_logs" / "q.log"
    put_answer(broken, {**answers.INSPECTION, "storage": None})
    waits = f"until [ -e {log} ]; do sleep 0.02; done"
    script_by_model(broken, {"gpu_query": f"cat ~/answer; {waits}; {SAYS_NONSENSE}"})
    pods = ("--pod", "good", "--pod", "broken")
    started = pi("start", "Qwen/Qwen3-8B", "--name", "q", "--json", *pods)
    assert started.code == 1
    assert [(each["pod"], each["ready"]) for each in started.json] == [("good", True)]
    assert f"error: {NONSENSE}\n" in started.err
    recorded = {name: list(pod["models"]) for name, pod in pods_json()["pods"].items()}
    assert recorded == {"good": ["q"], "broken": [], "typo": ["kept"]}
    assert any("serve" in process.command for process in good.processes())
    script(broken, SAYS_NONSENSE)
    stopped = pi("stop", "--all", *pods)
    assert (stopped.code, stopped.out) == (1, "stopped `q` on `good`\n")
    assert pods_json()["pods"]["good"]["models"] == {}
    assert [process.command for process in good.processes()] == []

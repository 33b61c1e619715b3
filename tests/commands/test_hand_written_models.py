"""Models that the user started with `vllm serve` and wrote into `pods.json` in the documented form."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.conftest import Pi, pods_json, register
from tests.demo.model import Model, serve
from tests.until import until


@pytest.fixture(scope="module")
def machine() -> Iterator[EmbeddedPod]:
    with EmbeddedPod() as pod:
        for program in ("hf", "vllm"):
            (pod.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
        yield pod


@pytest.fixture
def dc1(machine: EmbeddedPod) -> EmbeddedPod:
    register("dc1", machine, count=2)
    return machine


def write_entry(model: Model, name: str = "tiny") -> dict[str, object]:
    """Write a running vLLM into `pods.json` as docs and README say, and return its entry."""
    until(lambda: any("serve" in process.command for process in model.processes))
    entry = {"model": "tiny/model", "port": model.port, "gpu": "0", "pid": model.server.pid}
    state = pods_json()
    state["pods"]["dc1"]["models"] = {name: entry}
    Path(os.environ["PI_CONFIG_DIR"], "pods.json").write_text(json.dumps(state))
    return entry


def test_one_that_still_loads_is_starting_and_nothing_fails(pi: Pi, dc1: EmbeddedPod) -> None:
    loading = serve(dc1, seconds=600)
    entry = write_entry(loading)
    result = pi("list", "--json")
    assert result.code == 0, result.err
    [listed] = result.json
    assert (listed["name"], listed["status"], listed["pid"]) == ("tiny", "starting", entry["pid"])
    assert (listed["model"], listed["phase"]) == ("tiny/model", "starting vLLM")
    assert "tiny" in pi("list").out
    assert pods_json()["pods"]["dc1"]["models"] == {"tiny": entry}
    [checked] = pi("pods", "--check", "--json").json
    assert (checked["check"]["error"], checked["check"]["models"]) == (None, ["tiny"])
    assert not [each for each in checked["check"]["differences"] if "tiny" in each["text"]]
    other = pi("start", "Qwen/Qwen3-8B", "--name", "other", "--json")
    assert other.code == 0, other.err
    assert other.json[0]["gpu"] == "1"
    stopped = pi("stop", "--all")
    assert stopped.code == 0
    assert stopped.out.splitlines() == ["stopped `other` on `dc1`", "stopped `tiny` on `dc1`"]
    assert loading.processes == []
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_one_that_has_loaded_becomes_ready_and_keeps_its_entry(pi: Pi, dc1: EmbeddedPod) -> None:
    loading = serve(dc1, seconds=0.5)
    entry = write_entry(loading)
    assert pi("list", "--json").json[0]["status"] in ("starting", "ready")
    until(lambda: loading.status() == 200)
    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["model"], listed["url"]) == (
        "ready",
        "tiny/model",
        None,
    )
    assert pods_json()["pods"]["dc1"]["models"] == {"tiny": entry}
    assert pi("stop", "tiny").out == "stopped `tiny` on `dc1`\n"
    assert loading.processes == []


def test_one_that_has_exited_is_removed_with_the_cause(pi: Pi, dc1: EmbeddedPod) -> None:
    loading = serve(dc1, seconds=600)
    write_entry(loading)
    loading.signal("KILL")
    until(lambda: not any("serve" in process.command for process in loading.processes))
    [dead] = pi("list", "--json").json
    assert (dead["name"], dead["status"]) == ("tiny", "dead")
    assert pods_json()["pods"]["dc1"]["models"] == {}

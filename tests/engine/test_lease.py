"""A real vLLM with a lease: its own counters say whether it works, and what is left of it when it has ended."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY
from tests.engine.conftest import Engine
from tests.engine.test_main_job import START, vllm_processes
from tests.until import until

LEASE = 20  # seconds


@pytest.fixture
def clean(engine: Engine) -> Iterator[Engine]:
    """The pod, and afterwards the proof that the test has left nothing on it."""
    assert engine.setup.code == 0, engine.setup.err
    yield engine
    engine.pi("stop", "--all")
    until(lambda: not vllm_processes(engine) and engine.pod.listening() == {22})


def lease(engine: Engine) -> Any:
    [row] = [row for row in engine.pi("lease", "tiny", "--json").json if row["lease"]]
    return row["lease"]


def test_a_real_vllm_is_left_alone_while_it_works_and_ends_after_its_lease(clean: Engine) -> None:
    words = list(START)
    words[words.index("--vllm") : words.index("--vllm")] = ["--lease", f"{LEASE}s"]
    started = clean.pi(*words, timeout=900)
    assert started.code == 0, started.err
    assert f"ends after {LEASE}s without work" in started.out

    [watcher] = [process for process in clean.pod.processes() if "PI_LEASE_UID" in process.environ]
    assert KEY not in str(watcher.environ)
    began = time.monotonic()
    while time.monotonic() - began < 1.5 * LEASE:  # longer than the lease, with requests and without any left over
        answered = clean.pi("prompt", "tiny", "--no-tools", "What is 2+2?")
        assert answered.code == 0, answered.err
    until(lambda: lease(clean)["phase"] == "idle")
    assert 0 < lease(clean)["left_seconds"] <= LEASE

    until(lambda: not vllm_processes(clean), seconds=6 * LEASE)
    until(lambda: clean.pod.listening() == {22})
    listed = clean.pi("list")
    assert "`tiny` ended after " in listed.err
    assert "the pod is still billed" in listed.err
    [end] = [row["lease_end"] for row in clean.pi("lease", "--json").json]
    assert (end["why"], end["outcome"]) == ("idle", "stopped")
    assert LEASE <= end["idle_seconds"] < 3 * LEASE
    assert KEY not in clean.pod.check("cat ~/.pi/lib/lease.py ~/.pi/leases/*")

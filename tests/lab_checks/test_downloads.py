"""Downloads by the pod's agent with the real `hf`, from the Hub stand-in."""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.agent.machine import Machine, environ, messages, start_request
from tests.agent.test_download import SHOWS_ENVIRONMENT, configure, is_note, notes, read_until, seen
from tests.lab.hub import Hub
from tests.until import until

MB = 1 << 20
MODEL = "big/model"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        hub.add_synthetic(MODEL, {"config.json": b"{}", "one.safetensors": 12 * MB, "two.safetensors": 12 * MB})
        yield hub


@pytest.fixture
def machine(environment: Path) -> Iterator[Machine]:
    """A pod with the `hf` of this environment."""
    made = Machine(environment)
    made.install("hf", f'#!/bin/sh\nexec {Path(sys.executable).with_name("hf")} "$@"\n')
    yield made
    for record in made.records():
        if record["pid"]:
            with suppress(ProcessLookupError):
                os.killpg(record["pid"], signal.SIGKILL)


def request(hub: Hub, **changes: Any) -> Any:
    wanted = {"model": MODEL, "download": True, "download_environment": {"HF_ENDPOINT": hub.url}}
    return start_request("q") | wanted | changes


def download(machine: Machine, hub: Hub, **changes: Any) -> list[dict[str, Any]]:
    with machine.open("start", **request(hub, **changes)) as opened:
        assert opened.stdout is not None
        return messages(opened.stdout.read())


def blobs(machine: Machine, pattern: str = "*") -> list[Path]:
    return sorted((machine.home / ".cache/huggingface/hub").glob(f"models--*/blobs/{pattern}"))


def test_a_download_is_shown_to_its_last_byte_and_never_requested_again(machine: Machine, hub: Hub) -> None:
    hub.rate = 8 * MB
    told = download(machine, hub)
    steps = [(each["done"], each["total"]) for each in told if each.get("event") == "progress"]
    assert steps[-1] == (24 * MB + 2, 24 * MB + 2)
    assert any(0 < done < 24 * MB for done, _ in steps)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert notes(told) == []

    hub.requests.clear()
    machine.install("vllm", SHOWS_ENVIRONMENT)
    again = download(machine, hub, uid="another", name="r", gpus=[1])
    assert "result" in again[-1]
    assert hub.requests == []
    assert seen(machine)[0] == "1"


def test_the_revision_that_the_arguments_name_is_downloaded_and_no_other(machine: Machine, hub: Hub) -> None:
    machine.install("vllm", SHOWS_ENVIRONMENT)
    commit = hub.commit(MODEL)
    told = download(machine, hub, arguments=["--revision", commit], revision=commit, own=True)
    assert "result" in told[-1]
    cache = machine.home / ".cache/huggingface/hub/models--big--model"
    assert not (cache / "refs").exists()
    assert [each.name for each in (cache / "snapshots").iterdir()] == [commit]

    hub.requests.clear()
    again = download(machine, hub, uid="another", name="r", gpus=[1], revision=commit)
    assert "result" in again[-1]
    assert hub.requests == []


def test_a_missing_revision_is_reported(machine: Machine, hub: Hub) -> None:
    refusal = download(machine, hub, revision="v9")[-1]["refusal"]
    assert (refusal["code"], "Revision not found" in refusal["reason"]) == ("download", True)
    assert machine.records() == []


def test_a_stall_ends_hf_and_the_next_one_restarts_its_files(machine: Machine, hub: Hub) -> None:
    configure(machine, PI_STALL_SECONDS=5)
    hub.rate = 4 * MB
    with machine.open("start", **request(hub)) as opened:
        read_until(opened, lambda each: each.get("done", 0) > MB)
        hub.rate = 0
        read_until(opened, is_note("download stalled for 5 s; restarting hf, without Xet"))
        hub.rate = None
        assert opened.stdout is not None
        assert "result" in messages(opened.stdout.read())[-1]
    assert len(blobs(machine)) == 3
    assert blobs(machine, "*.incomplete") == []


def test_when_pi_goes_nothing_of_hf_stays_but_whole_files(machine: Machine, hub: Hub) -> None:
    """Fault 24."""
    hub.rate = 2 * MB
    with machine.open("start", **request(hub)) as opened:
        read_until(opened, lambda each: each.get("done", 0) > MB)
        assert opened.stdin is not None
        opened.stdin.close()
        assert opened.wait(timeout=10) == 0
    marker = b"PI_MODEL_UID="
    ours = f"HOME={machine.home}".encode()
    until(lambda: not [each for each in map(environ, Path("/proc").glob("[0-9]*")) if marker in each and ours in each])
    assert blobs(machine, "*.incomplete") == []
    assert machine.records() == []


def test_the_lock_that_hf_waits_for_is_named(machine: Machine, hub: Hub) -> None:
    """Fault 42."""
    configure(machine, PI_STALL_SECONDS=2)
    assert "result" in download(machine, hub)[-1]
    [largest, _] = sorted(blobs(machine), key=lambda blob: -blob.stat().st_size)[:2]
    lock = largest.parents[2] / ".locks" / largest.parents[1].name / f"{largest.name}.lock"
    largest.unlink()
    for name in largest.parents[1].glob("snapshots/*/*"):
        if not name.exists():
            name.unlink()
    with lock.open("a+b") as held:  # some versions of filelock delete it after use
        fcntl.flock(held, fcntl.LOCK_EX)
        with machine.open("start", **request(hub, uid="another", name="r", gpus=[1])) as opened:
            told = read_until(opened, is_note("lock"))
            assert notes([told]) == [f"waiting for the lock {lock}, which process {os.getpid()} holds"]
            fcntl.flock(held, fcntl.LOCK_UN)
            assert opened.stdout is not None
            rest = messages(opened.stdout.read())
    assert "result" in rest[-1]
    assert notes(rest) == []

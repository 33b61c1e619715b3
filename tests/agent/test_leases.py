"""Models that end by themselves: real processes, counters from a file, and a provider that records what it is asked."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from pi_cli.demo import ports
from tests.agent import lease_lab
from tests.agent.lease_lab import RUNPOD, VAST, change, ends, start, state, watcher, work
from tests.agent.machine import Machine, environ, known
from tests.until import until


@pytest.fixture
def pod(machine: Machine) -> Iterator[Machine]:
    """A machine whose vLLM reports its work."""
    machine.install("vllm", lease_lab.ENGINE.format(python=sys.executable))
    work(machine)
    with ports.reserved() as first:  # models of other tests listen on this machine too
        machine.environ["PI_FIRST_PORT"] = str(first)
        yield machine
    for path in (machine.home / ".pi" / "leases").glob("*.state"):
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(watcher(machine, path.stem), signal.SIGKILL)


def lives(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def has_ended(uid: str) -> bool:
    return not any(f"PI_MODEL_UID={uid}".encode() in environ(process) for process in Path("/proc").glob("[0-9]*"))


def looks(machine: Machine, name: str = "q") -> int:
    with suppress(FileNotFoundError):
        return (machine.home / f"asked-{name}").read_text().count("/metrics")
    return 0


def looked(machine: Machine, more: int, name: str = "q") -> None:
    """Wait until what watches a model has looked so many times more."""
    before = looks(machine, name)
    until(lambda: looks(machine, name) >= before + more)


def left(machine: Machine, name: str = "q") -> float | None:
    [model] = [each for each in machine.survey()["result"]["models"] if each["name"] == name]
    seconds: float | None = model["lease"]["left"]
    return seconds


def test_a_model_without_work_ends_with_all_its_processes_and_nothing_is_left_but_a_line(pod: Machine) -> None:
    uid = start(pod)
    until(lambda: ends(pod))
    [end] = ends(pod)
    assert (end["name"], end["why"], end["outcome"], end["pod"]) == ("q", "idle", "stopped", "billed")
    assert 1 <= end["idle"] < 15
    assert has_ended(uid)
    assert pod.records() == []
    until(lambda: [path.name for path in (pod.home / ".pi" / "leases").iterdir()] == ["ended.jsonl"])
    until(lambda: not lease_processes(uid))
    assert lease_lab.secrets_in(pod.home) == []
    death = pod.ask("survey", known=[known("q", uid, pid=7)], forget=True, memory=True, live=False)["result"]["dead"]
    assert [(each["name"], each["lease_end"]["why"]) for each in death] == [("q", "idle")]


def lease_processes(uid: str) -> list[Path]:
    return [each for each in Path("/proc").glob("[0-9]*") if f"PI_LEASE_UID={uid}".encode() in environ(each)]


def test_work_of_every_kind_renews_a_lease(pod: Machine) -> None:
    uid = start(pod, seconds=10)
    until(lambda: state(pod, uid)["phase"] == "idle")
    work(pod, running=1)
    until(lambda: state(pod, uid)["phase"] == "busy")
    assert left(pod) == 10
    # Requests that begin and end between two looks, and a long stream.
    for finished, tokens in ((1, 0), (1, 7), (2, 7)):
        looked(pod, 2)
        before = state(pod, uid)["since"]
        work(pod, finished=finished, tokens=tokens)
        until(partial(renewed, pod, uid, before))
    assert ends(pod) == []


def renewed(machine: Machine, uid: str, before: float) -> bool:
    return bool(state(machine, uid)["since"] > before)


def test_the_looks_of_pi_do_not_count_as_work(pod: Machine) -> None:
    start(pod, seconds=2)

    def looks_until_it_has_ended() -> bool:
        pod.survey()
        return bool(ends(pod))

    until(looks_until_it_has_ended)


def test_a_model_that_does_not_answer_is_not_ended(pod: Machine) -> None:
    uid = start(pod)
    looked(pod, 1)
    (pod.home / "metrics-q").unlink()
    looked(pod, 6)
    [model] = pod.survey()["result"]["models"]
    assert (model["lease"]["phase"], model["lease"]["left"]) == ("silent", None)
    assert not has_ended(uid)
    work(pod)
    until(lambda: ends(pod))


def test_what_watches_is_started_again_and_has_lost_nothing(pod: Machine) -> None:
    uid = start(pod, seconds=10)
    looked(pod, 2)
    first, since = watcher(pod, uid), state(pod, uid)["since"]
    os.kill(first, signal.SIGKILL)
    until(lambda: not lives(first))
    seen = pod.ask("survey", known=[], forget=False, memory=False, live=True)["result"]
    reports = [model["lease"]["watcher"] for model in seen["models"]]
    assert reports == ["dead"]
    [model] = pod.survey()["result"]["models"]
    assert (model["lease"]["watcher"], model["lease"]["seconds"]) == ("revived", 10)
    assert watcher(pod, uid) != first
    assert pod.survey()["result"]["models"][0]["lease"]["watcher"] == "lives"
    looked(pod, 2)
    assert state(pod, uid)["since"] == since


def test_a_stop_ends_what_watches_and_a_new_start_has_no_lease_of_the_old_one(pod: Machine) -> None:
    uid = start(pod, seconds=60)
    process = watcher(pod, uid)
    assert pod.ask("stop", models=[known("q", uid)], exact=False)["result"]["outcomes"] == ["stopped"]
    assert not lives(process)
    assert list((pod.home / ".pi" / "leases").iterdir()) == []
    start(pod, seconds=None)
    [model] = pod.survey()["result"]["models"]
    assert model["lease"] is None
    assert ends(pod) == []


def test_a_lease_can_be_given_changed_and_cancelled(pod: Machine) -> None:
    uid = start(pod, seconds=None)
    [lease] = change(pod, "set", "q", seconds=60)["result"]["leases"]
    assert (lease["name"], lease["seconds"], lease["then"]) == ("q", 60, None)
    first = watcher(pod, uid)
    assert [each["seconds"] for each in change(pod, "set", "q", seconds=90)["result"]["leases"]] == [90]
    assert watcher(pod, uid) == first
    assert change(pod, "off", "q")["result"]["leases"] == []
    assert not lives(first)
    assert change(pod, "set", "none")["refusal"]["code"] == "not-there"
    assert change(pod, "off", "none")["refusal"]["code"] == "not-there"
    change(pod, "set", "q", seconds=1)
    until(lambda: ends(pod))


def test_a_lease_of_the_time_before_a_restart_of_the_container_is_forgotten(pod: Machine) -> None:
    uid = start(pod, seconds=60, then="stop-pod")
    os.kill(watcher(pod, uid), signal.SIGKILL)
    path = pod.home / ".pi" / "leases" / f"{uid}.json"
    path.write_text(path.read_text().replace('"life": "', '"life": "other'))
    assert [model["lease"] for model in pod.survey()["result"]["models"]] == [None]
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"uid": 1}', "null", "\0" * 100])
def test_a_broken_file_of_a_lease_is_left_out(pod: Machine, content: str) -> None:
    uid = start(pod, seconds=60)
    os.kill(watcher(pod, uid), signal.SIGKILL)
    for name in (f"{uid}.json", f"{uid}.state", "ended.jsonl"):
        (pod.home / ".pi" / "leases" / name).write_text(content)
    assert [model["lease"] for model in pod.survey()["result"]["models"]] == [None]
    assert change(pod, "show")["result"] == {"leases": [], "ends": [], "pod_stop": None}


# The pod is stopped


@pytest.mark.parametrize(
    ("variables", "call"),
    [(RUNPOD, ("POST", "/graphql")), (VAST, ("PUT", "/api/v0/instances/4711/"))],
    ids=["runpod", "vast"],
)
def test_the_last_lease_stops_the_pod_once(pod: Machine, variables: str, call: tuple[str, str]) -> None:
    with lease_lab.provider(pod, variables) as provider:
        assert change(pod, "check")["result"]["pod_stop"]["trouble"] == ""
        assert (len(provider.looks), provider.calls) == (1, [])
        work(pod, "r")
        start(pod, "q", 1, "stop-pod")
        start(pod, "r", 3, gpu=1)
        until(lambda: len(ends(pod)) == 1)
        assert [(end["name"], end["pod"], end["others"]) for end in ends(pod)] == [("q", "kept", ["r"])]
        assert provider.calls == []
        assert [each["then"] for each in change(pod, "show")["result"]["leases"]] == ["stop-pod"]
        until(lambda: ends(pod)[-1]["pod"] == "stopped")
        assert [each[:2] for each in provider.calls] == [call]
        assert [end["name"] for end in ends(pod)] == ["q", "r"]
        assert lease_lab.secrets_in(pod.home) == []


def test_a_provider_that_fails_is_asked_again(pod: Machine) -> None:
    with lease_lab.provider(pod, RUNPOD) as provider:
        provider.failures = 2
        seen: list[str] = []
        start(pod, "q", 1, "stop-pod")

        def has_stopped() -> bool:
            seen.extend(end["reason"] for end in ends(pod) if end["reason"])
            return bool(ends(pod)) and ends(pod)[-1]["pod"] == "stopped"

        until(has_stopped)
        assert len(provider.calls) == 3
        assert set(seen) == {"api.runpod.io answered with status 500"}
        assert len(ends(pod)) == 1
        until(lambda: list((pod.home / ".pi" / "leases").glob("*.json")) == [])


def test_a_model_without_a_lease_keeps_the_pod(pod: Machine) -> None:
    with lease_lab.provider(pod, RUNPOD) as provider:
        start(pod, "other", None, gpu=1)
        start(pod, "q", 1, "stop-pod")
        until(lambda: ends(pod))
        assert [(end["pod"], end["others"]) for end in ends(pod)] == [("kept", ["other"])]
        assert provider.calls == []


def test_the_pod_of_a_model_that_has_died_is_stopped_after_its_lease(pod: Machine) -> None:
    with lease_lab.provider(pod, RUNPOD) as provider:
        start(pod, "q", 2, "stop-pod")
        looked(pod, 1)
        os.killpg(pod.records()[0]["pid"], signal.SIGKILL)
        until(lambda: [end["pod"] for end in ends(pod)] == ["stopped"])
        assert ends(pod)[0]["why"] == "died"
        assert len(provider.calls) == 1


def test_a_stop_by_the_user_stops_no_pod(pod: Machine) -> None:
    with lease_lab.provider(pod, RUNPOD) as provider:
        uid = start(pod, "q", 1.5, "stop-pod")
        process = watcher(pod, uid)
        pod.ask("stop", models=[known("q", uid)], exact=False)
        assert not lives(process)
        assert (provider.calls, ends(pod)) == ([], [])


def test_what_cannot_stop_the_pod_is_found_out_without_stopping_it(pod: Machine) -> None:
    assert change(pod, "check")["result"]["pod_stop"] == {"provider": None, "trouble": ""}
    with lease_lab.provider(pod, RUNPOD, key="another") as provider:
        answer = change(pod, "check")["result"]["pod_stop"]
        assert answer == {"provider": "runpod", "trouble": "api.runpod.io answered with status 401"}
        start(pod, seconds=None)
        refused = change(pod, "set", "q", seconds=1, then="stop-pod")["result"]
        assert refused["leases"] == []
        assert pod.survey()["result"]["models"][0]["lease"] is None
        assert provider.calls == []


def test_a_purge_leaves_nothing_of_leases(pod: Machine) -> None:
    uid = start(pod, "q", 60, "stop-pod")
    process = watcher(pod, uid)
    os.killpg(pod.records()[0]["pid"], signal.SIGKILL)
    until(lambda: has_ended(uid))
    assert "refusal" not in pod.ask("purge", delete=True, models=False)
    assert not lives(process)
    assert not (pod.home / ".pi" / "leases").exists()

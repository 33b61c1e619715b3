"""A model's whole life over real sshd, and what is left when `pi start` ends before its time."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import (
    MODEL,
    QUICK,
    SLOW,
    TOOLS,
    downloads,
    living,
    pi_at,
    records,
    seconds_until_end,
    servers,
    session_of_sshd,
    start,
)
from tests.openssh.conftest import Prepare
from tests.until import until

ANSWERS_HEALTH_ONLY = """#!/usr/bin/python3
import http.server, sys, time

class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/health":
            time.sleep(600)
        self.send_response(200)
        self.end_headers()

http.server.ThreadingHTTPServer(("", int(sys.argv[sys.argv.index("--port") + 1])), Server).serve_forever()
"""


def ignored_signals(pod: OpensshPod, pid: int) -> set[int]:
    status = (pod.root / f"proc/{pid}/status").read_text().splitlines()
    [mask] = [int(line.split()[1], 16) for line in status if line.startswith("SigIgn:")]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def uid_of(pod: OpensshPod, pid: int) -> str:
    return next(each.environ["PI_MODEL_UID"] for each in pod.processes() if each.pid == pid)


def test_a_models_whole_life_leaves_nothing(pi: Pi, pod: OpensshPod) -> None:
    started = pi("start", MODEL, "--name", "q", "--json", *QUICK, *TOOLS)
    assert started.code == 0, started.err
    [model] = started.json
    assert (model["ready"], model["port"], model["gpu"], model["answers_from_here"]) == (True, 8001, "0", True)
    assert pod.listening() == {22, 8001}

    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["pid"]) == ("ready", model["pid"])
    assert "Application startup complete" in pi("logs", "q", "--no-follow").out
    assert pi("prompt", "q", "What is 2+2?").out.strip() == "4"

    stopped = pi("stop", "q")
    assert (stopped.code, stopped.out) == (0, "stopped `q` on `dc1`\n")
    assert living(pod) == []
    assert pod.listening() == {22}
    assert records(pod) == []
    assert pods_json()["pods"]["dc1"]["models"] == {}


def test_a_model_outlives_the_connection_and_everything_sshd_started(pi: Pi, pod: OpensshPod) -> None:
    pid = start(pi)
    group, session = pod.check(f"ps -o pgid=,sid= -p {pid}").split()
    assert (int(group), int(session)) == (pid, pid)
    assert signal.SIGHUP in ignored_signals(pod, pid)

    pod.check(f"kill -HUP -- -{pid}; pkill -KILL sshd")
    pod.restart_sshd()

    [listed] = pi("list", "--json").json
    assert (listed["status"], listed["pid"]) == ("ready", pid)


def test_a_detached_model_is_launched_and_keeps_loading(pi: Pi, pod: OpensshPod) -> None:
    started = pi("start", MODEL, "--name", "q", "--detach", "--json", "--vllm", "--simulate", "slow=3")
    assert started.json[0]["ready"] is False
    assert [each.args[0] for each in living(pod) if "-c" in each.args] == []  # no agent waits beside it
    until(lambda: pi("list", "--json").json[0]["status"] == "ready", seconds=30)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "downloading"),
        (signal.SIGINT, "loading weights"),
        (signal.SIGTERM, "loading weights"),
        (signal.SIGHUP, "downloading"),
    ],
)
def test_leaving_pi_start_ends_what_it_began(pi: Pi, pod: OpensshPod, number: signal.Signals, moment: str) -> None:
    """Faults 24 and 26, DESIGN 5.7."""
    prepared.pace_downloads(pod, seconds=60 if moment == "downloading" else 0.1)
    before = Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes()
    with pi_at(moment, "start", MODEL, "--name", "q", *SLOW) as starting:
        until(lambda: downloads(pod) if moment == "downloading" else servers(pod))
        starting.send_signal(number)
        assert seconds_until_end(starting) < 5
        assert starting.returncode in (130, 128 + number)
        assert starting.stderr
        assert "Traceback" not in starting.stderr.read()
    assert living(pod) == []
    assert records(pod) == []
    assert list((pod.home / ".cache").rglob("*.incomplete")) == []
    assert Path(os.environ["PI_CONFIG_DIR"], "pods.json").read_bytes() == before
    assert pi("list", "--json").json == []


def test_kill_9_of_pi_in_the_download_ends_the_download(pi: Pi, pod: OpensshPod) -> None:
    """Fault 27."""
    prepared.pace_downloads(pod, seconds=60)
    with pi_at("downloading", "start", MODEL, "--name", "q", *SLOW) as starting:
        until(lambda: downloads(pod))
        starting.kill()
        until(lambda: living(pod) == [], seconds=5)
    assert records(pod) == []
    assert pi("list", "--json").json == []
    prepared.pace_downloads(pod, seconds=0.1)
    start(pi)


def test_kill_9_of_pi_while_loading_leaves_a_model_that_is_adopted_and_can_be_stopped(pi: Pi, pod: OpensshPod) -> None:
    """Fault 27."""
    with pi_at("loading weights", "start", MODEL, "--name", "q", "--vllm", "--simulate", "slow=4") as starting:
        [server] = servers(pod)
        starting.kill()
    assert pods_json()["pods"]["dc1"]["models"] == {}
    result = pi("list", "--json")
    assert "found `q` running here and added it" in result.err
    assert [each["pid"] for each in result.json] == [server.pid]
    until(lambda: pi("list", "--json").json[0]["status"] == "ready", seconds=30)
    assert pi("stop", "q").code == 0
    assert living(pod) == []


def test_a_session_killed_while_loading_fails_the_start_and_the_model_is_found_again(pi: Pi, pod: OpensshPod) -> None:
    """Faults 6 and 28."""
    with pi_at("loading weights", "start", MODEL, "--name", "q", *SLOW) as starting:
        [server] = servers(pod)
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        assert seconds_until_end(starting) < 5
        assert starting.returncode == 3
        assert starting.stderr
        said = starting.stderr.read()
        assert "error: cannot reach pod `dc1`: the connection was lost" in said
        assert "`pi start --attach q --pod dc1`" in said
    [listed] = pi("list", "--json").json
    assert (listed["name"], listed["pid"], listed["status"]) == ("q", server.pid, "starting")
    assert pi("stop", "q").code == 0
    assert living(pod) == []


def test_a_session_killed_during_the_first_answer_is_not_blamed_on_the_model(pi: Pi, pod: OpensshPod) -> None:
    """Fault 6."""
    pod.install("vllm", ANSWERS_HEALTH_ONLY)
    with pi_at("requesting a first token", "start", MODEL, "--name", "q") as starting:
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        assert seconds_until_end(starting) < 5
        assert starting.returncode == 3
        assert starting.stderr
        assert "error: cannot reach pod `dc1`: the connection was lost" in starting.stderr.read()
    assert [each["name"] for each in pi("list", "--json").json] == ["q"]


def test_a_session_killed_in_the_download_ends_the_download(pi: Pi, pod: OpensshPod) -> None:
    """Fault 6."""
    prepared.pace_downloads(pod, seconds=60)
    with pi_at("downloading", "start", MODEL, "--name", "q", *SLOW) as starting:
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        assert seconds_until_end(starting) < 5
        assert starting.returncode == 3
    until(lambda: living(pod) == [], seconds=5)
    assert pi("list", "--json").json == []


def test_zombies_count_as_dead(pi: Pi, prepare: Prepare) -> None:
    """Fault 52."""
    pod = prepare(reaping=False)
    uid = uid_of(pod, start(pi, "a"))
    start(pi, "b")

    pod.check(f"kill -KILL {' '.join(str(each.pid) for each in living(pod) if each.environ['PI_MODEL_UID'] == uid)}")
    result = pi("list", "--json")
    assert [(each["name"], each["status"]) for each in result.json] == [("a", "dead"), ("b", "ready")]
    assert "`a` is dead and was removed" in result.err

    stopped = pi("stop", "b", timeout=8)  # less than its patience with a process that does not die
    assert stopped.out == "stopped `b` on `dc1`\n"
    assert {each.state for each in pod.processes() if each.environ.get("PI_MODEL_UID")} <= {"Z"}
    assert any(each.state == "Z" for each in pod.processes())
    assert pi("stop", "b").code == 2
    start(pi, "a")


def test_two_starts_from_two_computers_clash_neither_in_name_nor_in_port(
    pi: Pi, pod: OpensshPod, tmp_path: Path
) -> None:
    """Faults 32 and 33."""
    other = tmp_path / "other-computer"
    other.mkdir()
    for name in ("pods.json", "known_hosts"):
        (other / name).write_bytes(Path(os.environ["PI_CONFIG_DIR"], name).read_bytes())
    start(pi, "a")
    refused = pi("start", MODEL, "--name", "a", *QUICK, PI_CONFIG_DIR=str(other))
    assert (refused.code, "`a` already runs here" in refused.err) == (1, True)
    second = pi("start", MODEL, "--name", "b", "--json", *QUICK, PI_CONFIG_DIR=str(other)).json[0]
    assert (second["port"], second["gpu"]) == (8002, "1")
    assert sorted(json.loads(record)["name"] for record in records(pod)) == ["a", "b"]
    assert sorted(each["name"] for each in pi("list", "--json").json) == ["a", "b"]

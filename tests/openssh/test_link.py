"""Failures of the pod, of its sshd and of the network: errors, time-outs and cleaning up."""

import json
import signal
import subprocess
import time

import pytest

from tests.conftest import Pi, pods_json
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import (
    MODEL,
    QUICK,
    SLOW,
    TOOLS,
    begin,
    living,
    pi_at,
    seconds_until_end,
    session_of_sshd,
    start,
)
from tests.openssh.conftest import Prepare


def stall(pod: OpensshPod) -> None:
    """Stop sshd with SIGSTOP: the kernel still accepts connections, and no data is sent."""
    pod.check("kill -STOP $(cat /run/sshd.pid)")


def swallow_packets(pod: OpensshPod) -> None:
    pod.check(f"ip route replace blackhole {pod.host}/32")


def test_a_refused_connection_is_reported_at_once_and_nothing_is_forgotten(pi: Pi, pod: OpensshPod) -> None:
    """Faults 1 and 54."""
    start(pi)
    recorded = pods_json()
    pod.stop_sshd()
    for words in (["list"], ["stop", "q"], ["stop", "--all"], ["logs", "q"], ["start", MODEL, "--name", "r"]):
        result = pi(*words, timeout=5)
        assert result.code == 3, words
        assert f"error: cannot reach pod `dc1`: `{pod.address}` refused the connection" in result.err
        assert "pi pods remove dc1" in result.err
    assert pods_json() == recorded


def test_a_silent_pod_is_given_up_in_time_and_nothing_is_forgotten(pi: Pi, prepare: Prepare) -> None:
    """Faults 2, 3, 5 and 54: after 15 s before the login, after 28 s on an open connection."""
    silent, unreachable, frozen = prepare("dc1"), prepare("dc2"), prepare("dc3")
    for name in ("dc1", "dc2"):
        start(pi, pod=name)
    recorded = pods_json()
    on_frozen = ("--pod", "dc3", "--vllm", "--simulate", "slow=60")
    with pi_at("starting vLLM", "start", MODEL, "--name", "q", *on_frozen) as starting:
        frozen.check(f"kill -STOP {session_of_sshd(frozen).pid}")
        stall(silent)
        swallow_packets(unreachable)
        started = time.monotonic()
        both = ("--pod", "dc1", "--pod", "dc2")
        attempts = [
            begin(*words, *both) for words in (["list", "--json"], ["stop", "q"], ["start", MODEL, "--name", "r"])
        ]
        for attempt in attempts:
            err = attempt.communicate(timeout=30)[1]
            assert attempt.returncode == 3, err
            assert f"cannot reach pod `dc2`: `{unreachable.address}` did not answer within 15 s" in err
            assert f"cannot reach pod `dc1`: `{silent.address}` accepts connections but sent no SSH banner" in err
        assert time.monotonic() - started < 20
        starting.wait(timeout=30)
        assert time.monotonic() - started < 32
        assert starting.returncode == 3
    assert pods_json() == recorded
    assert [model["name"] for model in pi("list", "--pod", "dc3", "--json").json] == ["q"]


@pytest.mark.parametrize("silence", ["session", "network"])
def test_ctrl_c_does_not_wait_for_a_stalled_connection(pi: Pi, pod: OpensshPod, silence: str) -> None:
    """Fault 5."""
    start(pi)
    with begin("logs", "q") as following:
        assert following.stdout
        following.stdout.readline()
        if silence == "session":
            pod.check(f"kill -STOP {session_of_sshd(pod).pid}")
        else:
            swallow_packets(pod)
        following.send_signal(signal.SIGINT)
        assert seconds_until_end(following) < 3
        assert following.returncode == 130


@pytest.mark.parametrize("patience", [0.5, 4], ids=["soon", "late"])
def test_a_second_ctrl_c_exits_without_cleaning_up(pi: Pi, pod: OpensshPod, patience: float) -> None:
    """Fault 5: over a stalled connection the model cannot be stopped, and the first Ctrl+C keeps trying."""
    with pi_at("loading weights", "start", MODEL, "--name", "q", *SLOW) as starting:
        pod.check(f"kill -STOP {session_of_sshd(pod).pid}")
        starting.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            starting.wait(timeout=patience)
        starting.send_signal(signal.SIGINT)
        assert seconds_until_end(starting) < 1
        assert starting.returncode == 130
    assert [model["name"] for model in pi("list", "--json").json] == ["q"]


def test_one_session_at_a_time_is_enough(pi: Pi, pod: OpensshPod) -> None:
    """Fault 7."""
    pod.sshd_config(MaxSessions=1)
    pod.restart_sshd()
    start(pi, own=(*QUICK, *TOOLS))
    assert pi("list", "--json").json[0]["status"] == "ready"
    assert pi("logs", "q", "--no-follow").code == 0
    assert pi("prompt", "q", "What is 2+2?").out.strip() == "4"
    failed = pi("start", MODEL, "--name", "r", "--vllm", "--simulate", "fail=oom")
    assert (failed.code, "does not fit" in failed.err) == (4, True)
    with pi_at("loading weights", "start", MODEL, "--name", "s", *SLOW) as starting:
        starting.send_signal(signal.SIGINT)
        assert seconds_until_end(starting) < 5
    stopped = pi("stop", "--all")
    assert stopped.out == "stopped `q` on `dc1`\n", stopped.err
    assert living(pod) == []


def test_logins_are_retried_with_an_sshd_that_allows_one_at_a_time(pi: Pi, pod: OpensshPod) -> None:
    """Fault 7."""
    start(pi)
    pod.sshd_config(MaxStartups=1)
    pod.restart_sshd()
    listings = [begin("list", "--json") for _ in range(4)]
    outputs = [listing.communicate(timeout=40) for listing in listings]
    assert [json.loads(out)[0]["status"] for out, _ in outputs] == ["ready"] * 4, outputs


def test_a_connection_lost_during_an_answer_is_reported_as_lost(pi: Pi, pod: OpensshPod) -> None:
    """Fault 84."""
    start(pi, own=(*QUICK, "--simulate", "rate=5", *TOOLS))
    with begin("prompt", "q", "Count to 100") as asking:
        assert asking.stderr
        asking.stderr.read(1)
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        assert seconds_until_end(asking) < 5
        assert asking.returncode == 3
        assert "error: cannot reach pod `dc1`: the connection was lost" in asking.stderr.read()

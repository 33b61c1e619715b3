"""`pi forward` and `pi run` over a real sshd: links that are lost, fall silent and come back, and what sshd forbids."""

import re
import signal
import socket
import threading
import time
from contextlib import suppress

import httpx2
import openai
import pytest

from tests.commands.staying import Staying, staying
from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.openssh.at_work import QUICK, TOOLS, living, session_of_sshd, start, way_to
from tests.sdk import answer, counting
from tests.until import until

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(300)]  # the first test makes the lab

PRIVATE = ("--private", *QUICK, *TOOLS)


def seconds_until_let_go(url: str) -> float:
    """Connect, say something, and return how long it took until the port hung up without a word."""
    began = time.monotonic()
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: pod\r\n\r\n")
        assert connection.recv(100) == b""
    return time.monotonic() - began


def down_for(forward: Staying, *, times: int = 1) -> int:
    """Wait until the port leads to the model again, and return for how many seconds it was said to be down."""
    line = forward.says("`q` on `dc1` is up again, after ", times=times)
    found = re.search(r"after (\d+)s: http://127\.0\.0\.1:\d+/v1$", line)
    assert found, line
    return int(found[1])


def test_a_private_model_is_reached_through_ssh_and_in_no_other_way(pi: Pi, pod: OpensshPod) -> None:
    """Security checks 19 and 20."""
    start(pi, own=PRIVATE)
    there = int(pi("list", "--json").json[0]["port"])
    with socket.socket() as probe:
        assert probe.connect_ex((pod.address, there)) != 0
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        assert int(url.removesuffix("/v1").rpartition(":")[2]) >= there, "its own port, if that is free here"
        assert answer(url) == "\n\n4"
        assert pi("env", "q").out.startswith(f"export OPENAI_BASE_URL={url}\n")
        assert pi("run", "q", "--", "sh", "-c", "exit 7").code == 7
        assert forward.end(signal.SIGINT) == 130
    assert not [
        each for each in living(pod) if "serve" not in each.args and "engine" not in " ".join(each.args).lower()
    ]


def test_a_link_lost_for_a_while_comes_back_to_the_same_port(pi: Pi, pod: OpensshPod) -> None:
    """Faults 5 and 84: sshd is gone for some seconds, in the middle of an answer."""
    start(pi, own=("--private", *QUICK, "rate=5", *TOOLS))
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        with counting(url) as stream:
            pod.stop_sshd()
            pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
            with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
                list(stream)
        forward.says("`q` on `dc1` is down: cannot reach pod `dc1`: the connection was lost")
        began = time.monotonic()
        while time.monotonic() - began < 6:  # of the 60 s that a link may be gone for
            assert seconds_until_let_go(url) < 1
        pod.restart_sshd()
        assert 6 <= down_for(forward) <= 16
        assert answer(url) == "\n\n4"
        reasons = [line for line in forward.err if "is down" in line]
        assert len(reasons) == len(set(reasons)), "each reason is said once"
        assert forward.out == [url]


def test_a_link_that_is_lost_again_and_again_is_made_again_and_again(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=PRIVATE)
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        for time_ in (1, 2, 3):
            pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
            assert down_for(forward, times=time_) <= 10
            assert answer(url) == "\n\n4"


def test_a_link_that_falls_silent_is_noticed_within_half_a_minute(pi: Pi, pod: OpensshPod) -> None:
    """Fault 5."""
    start(pi, own=("--private", *QUICK, "rate=5", *TOOLS))
    with way_to(pod, "silent") as way:
        assert pi("list", "--pod", "silent").code == 0
        with staying("forward", "silent/q") as forward:
            [url] = forward.prints()
            with counting(url) as stream:
                way.fall_silent()
                began = time.monotonic()
                with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
                    list(stream)
                assert time.monotonic() - began < 32
            forward.says("`q` on `silent` is down: cannot reach pod `silent`: the connection was lost")
            assert seconds_until_let_go(url) < 1
            way.speak_again()
            forward.says("`q` on `silent` is up again")
            assert answer(url) == "\n\n4"


def test_a_machine_that_is_another_one_when_the_link_is_back_is_not_talked_to(pi: Pi, pod: OpensshPod) -> None:
    """Fault 8."""
    start(pi, own=PRIVATE)
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        pod.new_host_key()
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        assert forward.process.wait(30) == 3
        assert "its host key changed" in forward.says("error:")
    with pytest.raises(openai.APIConnectionError):
        answer(url)


def test_an_sshd_that_forbids_forwarding_is_said_to_be_the_reason(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=PRIVATE)
    pod.sshd_config(AllowTcpForwarding="no")
    pod.restart_sshd()
    for words in (["forward", "q"], ["run", "q", "--", "true"]):
        result = pi(*words)
        assert (result.code, result.out) == (3, "")
        assert "its sshd forbids port forwarding" in result.err
        assert "AllowTcpForwarding yes" in result.err


def test_many_programs_at_once_share_one_connection(pi: Pi, pod: OpensshPod) -> None:
    """Fault 7: forwarded connections are no sessions, of which sshd allows few."""
    start(pi, own=PRIVATE)
    pod.sshd_config(MaxSessions=1)
    pod.restart_sshd()
    answers: list[str] = []
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        asking = [threading.Thread(target=lambda: answers.append(answer(url))) for _ in range(40)]
        for each in asking:
            each.start()
        for each in asking:
            each.join(60)
        session_of_sshd(pod)
    assert answers == ["\n\n4"] * 40


def test_who_hangs_up_stops_the_answer_on_the_pod(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=("--private", *QUICK, "rate=5", *TOOLS))
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        with counting(url):
            assert pi("list", "--json").json[0]["requests_running"] == 1
        until(lambda: pi("list", "--json").json[0]["requests_running"] == 0)
    assert pod.listening()

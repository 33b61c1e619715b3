"""`pi forward` and `pi run` over a real sshd: connections that are lost, stall and come back, and sshd's limits."""

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

PRIVATE = ("--private", *QUICK, *TOOLS)


def seconds_until_closed(url: str) -> float:
    """Connect, send a request, and return how long it took until the port closed without an answer."""
    began = time.monotonic()
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: pod\r\n\r\n")
        assert connection.recv(100) == b""
    return time.monotonic() - began


def down_for(forward: Staying, *, times: int = 1) -> int:
    """Wait until the model can be reached again, and return the reported duration of the outage in seconds."""
    line = forward.says("`q` on `dc1` is up again, after ", times=times)
    match = re.search(r"after (\d+)s: http://127\.0\.0\.1:\d+/v1$", line)
    assert match, line
    return int(match[1])


def test_a_private_model_can_be_reached_through_ssh_only(pi: Pi, pod: OpensshPod) -> None:
    """Security checks 19 and 20."""
    start(pi, own=PRIVATE)
    port = int(pi("list", "--json").json[0]["port"])
    with socket.socket() as probe:
        assert probe.connect_ex((pod.address, port)) != 0
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        assert int(url.removesuffix("/v1").rpartition(":")[2]) >= port, "its own port, if that is free here"
        assert answer(url) == "\n\n4"
        assert pi("env", "q").out.startswith(f"export OPENAI_BASE_URL={url}\n")
        assert pi("run", "q", "--", "sh", "-c", "exit 7").code == 7
        assert forward.end(signal.SIGINT) == 130
    assert not [
        process
        for process in living(pod)
        if "serve" not in process.args and "engine" not in " ".join(process.args).lower()
    ]


def test_a_connection_lost_for_a_while_comes_back_on_the_same_port(pi: Pi, pod: OpensshPod) -> None:
    """Faults 5 and 84: sshd is gone for some seconds, in the middle of an answer."""
    start(pi, own=("--private", *QUICK, "--simulate", "rate=5", *TOOLS))
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        with counting(url) as stream:
            pod.stop_sshd()
            pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
            with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
                list(stream)
        forward.says("`q` on `dc1` is down: cannot reach pod `dc1`: the connection was lost")
        began = time.monotonic()
        while time.monotonic() - began < 6:  # of the 60 s that an outage may last
            assert seconds_until_closed(url) < 1
        pod.restart_sshd()
        assert 6 <= down_for(forward) <= 16
        assert answer(url) == "\n\n4"
        reasons = [line for line in forward.err if "is down" in line]
        assert len(reasons) == len(set(reasons)), "each reason is reported once"
        assert forward.out == [url]


def test_pi_reconnects_however_often_the_connection_is_lost(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=PRIVATE)
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        for times in (1, 2, 3):
            pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
            assert down_for(forward, times=times) <= 10
            assert answer(url) == "\n\n4"


def test_a_stalled_connection_is_detected_within_half_a_minute(pi: Pi, pod: OpensshPod) -> None:
    """Fault 5."""
    start(pi, own=("--private", *QUICK, "--simulate", "rate=5", *TOOLS))
    with way_to(pod, "silent") as relay:
        assert pi("list", "--pod", "silent").code == 0
        with staying("forward", "silent/q") as forward:
            [url] = forward.prints()
            with counting(url) as stream:
                relay.fall_silent()
                began = time.monotonic()
                with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
                    list(stream)
                assert time.monotonic() - began < 32
            forward.says("`q` on `silent` is down: cannot reach pod `silent`: the connection was lost")
            assert seconds_until_closed(url) < 1
            relay.speak_again()
            forward.says("`q` on `silent` is up again")
            assert answer(url) == "\n\n4"


def test_another_machine_that_answers_after_an_outage_gets_nothing(pi: Pi, pod: OpensshPod) -> None:
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


def test_an_sshd_that_forbids_forwarding_is_reported_as_the_reason(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=PRIVATE)
    pod.sshd_config(AllowTcpForwarding="no")
    pod.restart_sshd()
    for words in (["forward", "q"], ["run", "q", "--", "true"]):
        result = pi(*words)
        assert (result.code, result.out) == (3, "")
        assert "its sshd forbids port forwarding" in result.err
        assert "AllowTcpForwarding yes" in result.err


def test_many_programs_at_once_share_one_connection(pi: Pi, pod: OpensshPod) -> None:
    """Fault 7: forwarded connections are not sessions, of which sshd allows few."""
    start(pi, own=PRIVATE)
    pod.sshd_config(MaxSessions=1)
    pod.restart_sshd()
    answers: list[str] = []
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        asking = [threading.Thread(target=lambda: answers.append(answer(url))) for _ in range(40)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(60)
        session_of_sshd(pod)
    assert answers == ["\n\n4"] * 40


def test_a_client_that_disconnects_stops_the_answer_on_the_pod(pi: Pi, pod: OpensshPod) -> None:
    start(pi, own=("--private", *QUICK, "--simulate", "rate=5", *TOOLS))
    with staying("forward", "q") as forward:
        [url] = forward.prints()
        with counting(url):
            assert pi("list", "--json").json[0]["requests_running"] == 1
        until(lambda: pi("list", "--json").json[0]["requests_running"] == 0)
    assert pod.listening()

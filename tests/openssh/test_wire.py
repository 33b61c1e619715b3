"""A wire is as long, as narrow and as lossy as it says, and leaves nothing behind."""

import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.openssh import OpensshLab, OpensshPod
from tests.lab.wire import Wire, round_trips
from tests.openssh.session import BELIEVING
from tests.until import until

ROOT = Path(__file__).parents[2]
CLOSED = 9  # a port of UDP on which nothing listens: the pod counts what comes for it
pytestmark = pytest.mark.usefixtures("wires")


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def connect(pod: OpensshPod) -> None:
    socket.create_connection((pod.address, pod.port), timeout=20).close()


def greet(pod: OpensshPod) -> None:
    """Open a connection and read the server's first words, which it sends as soon as it is open."""
    with socket.create_connection((pod.address, pod.port), timeout=20) as connection:
        assert connection.recv(4) == b"SSH-"


def ssh(pod: OpensshPod, command: str, typed: bytes = b"") -> bytes:
    argv = [*shlex.split(pod.ssh), "-F", "/dev/null", *BELIEVING, command]
    return subprocess.run(argv, input=typed, capture_output=True, check=True, timeout=60).stdout


def datagrams(pod: OpensshPod) -> int:
    """Return how many datagrams have come to a port of the pod on which nothing listens."""
    names, values = (
        line.split() for line in Path(f"/proc/{pod.init}/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    )
    return int(values[names.index("NoPorts")])


def arrived(way: Wire, sent: int, *, loss: float) -> int:
    """Send so many datagrams, at most 500, for which a device has room, and return how many arrive."""
    before = datagrams(way.pod)
    way.set(loss=loss)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside:
        for _ in range(sent):
            outside.sendto(b"x", (way.pod.address, CLOSED))
    way.set()
    connect(way.pod)  # behind the last of them
    return datagrams(way.pod) - before


def test_a_round_trip_takes_as_long_as_it_says(openssh_pod: OpensshPod) -> None:
    """TCP's handshake takes one, which it does over no relay, and the server's first words come with the second."""
    with Wire(openssh_pod) as way:
        handshakes = round_trips(lambda: seconds(lambda: connect(openssh_pod)), way)
        first_words = round_trips(lambda: seconds(lambda: greet(openssh_pod)), way)
        way.set(round_trip=0.3)
        assert seconds(lambda: connect(openssh_pod)) >= 0.3
    assert 0.8 < handshakes < 1.2
    assert 1.6 < first_words < 2.4


def test_a_narrow_wire_limits_the_bytes_per_second_each_way(openssh_pod: OpensshPod) -> None:
    size, rate = 200_000, 100_000
    with Wire(openssh_pod) as way:
        ssh(openssh_pod, "true")
        way.set(rate=rate)
        there = seconds(lambda: ssh(openssh_pod, "cat > /dev/null", bytes(size)))
        back = seconds(lambda: ssh(openssh_pod, f"head -c {size} /dev/zero"))
        way.set()
        unlimited = min(seconds(lambda: ssh(openssh_pod, f"head -c {size} /dev/zero")) for _ in range(3))
    assert min(there, back) > size / rate
    assert unlimited < size / rate


def test_a_lossy_wire_loses_its_share_and_tcp_makes_up_for_it(openssh_pod: OpensshPod) -> None:
    with Wire(openssh_pod) as way:
        assert arrived(way, 400, loss=0.0) == 400
        assert 200 < arrived(way, 400, loss=0.3) < 360
        assert arrived(way, 50, loss=1.0) == 0
        way.set(loss=0.05)
        assert ssh(openssh_pod, "cat", bytes(range(256)) * 400) == bytes(range(256)) * 400


def test_a_connection_survives_the_laying_the_cutting_and_the_end_of_a_wire(openssh_pod: OpensshPod) -> None:
    argv = [*shlex.split(openssh_pod.ssh), "-F", "/dev/null", *BELIEVING, "cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as session:
        assert session.stdin
        assert session.stdout

        def echoes(word: bytes) -> bool:
            assert session.stdin
            assert session.stdout
            session.stdin.write(word + b"\n")
            return session.stdout.readline() == word + b"\n"

        assert echoes(b"direct")
        with Wire(openssh_pod, round_trip=0.2) as way:
            assert seconds(lambda: echoes(b"over the wire")) >= 0.2
            way.set(loss=1.0)
            session.stdin.write(b"while it is cut\n")
            way.set()
            assert session.stdout.readline() == b"while it is cut\n"
        assert echoes(b"direct again")
        session.stdin.close()


def test_filtered_ports_answer_nothing_and_others_do(openssh_pod: OpensshPod) -> None:
    with Wire(openssh_pod) as way:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((openssh_pod.address, 8001), timeout=20)
        with way.filtered(8001, 8008):
            with pytest.raises(TimeoutError):
                socket.create_connection((openssh_pod.address, 8001), timeout=0.5)
            connect(openssh_pod)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((openssh_pod.address, 8001), timeout=20)


def devices() -> str:
    return subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout


def test_a_wire_ends_with_its_block_and_a_pod_takes_another(openssh_pod: OpensshPod) -> None:
    for _ in range(2):
        with Wire(openssh_pod):
            assert f"{openssh_pod.slot.wire}:" in devices()
            connect(openssh_pod)
        assert f"{openssh_pod.slot.wire}:" not in devices()
    connect(openssh_pod)


def test_a_wire_ends_with_its_pod(openssh_lab: OpensshLab) -> None:
    with openssh_lab.pod() as pod, Wire(pod):
        pod.close()
        until(lambda: f"{pod.slot.wire}:" not in devices(), "the wire is gone")


def test_a_wire_ends_with_a_killed_test_run() -> None:
    script = """
import sys
from tests.lab.openssh import OpensshLab
from tests.lab.wire import Wire
with OpensshLab() as lab, lab.pod() as pod, Wire(pod):
    print(pod.slot.wire, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        wire = run.stdout.readline().strip()
        assert f"{wire}:" in devices()
        run.send_signal(signal.SIGKILL)
    until(lambda: f"{wire}:" not in devices(), "the wire is gone")

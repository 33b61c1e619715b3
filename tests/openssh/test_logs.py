"""`pi logs` over real sshd: watching ends with us, the model does not, and no lost link loses a byte."""

import json
import random
import signal
import time
from pathlib import Path

import pytest

from tests.commands.log_watching import watching
from tests.conftest import Pi
from tests.lab.openssh import OpensshPod, Process
from tests.openssh.at_work import begin, living, seconds_until_end, servers, session_of_sshd, start, way_to
from tests.openssh.conftest import Prepare
from tests.until import until

LOST, BACK = "note: the connection to `dc1` was lost; reconnecting\n", "note: reconnected to `dc1`\n"


def watchers(pod: OpensshPod) -> list[Process]:
    """Return what reads logs on the pod."""
    return [each for each in living(pod) if "PI_MODEL_UID" not in each.environ]


def log_of_silent_model(pod: OpensshPod, said: bytes = b"") -> Path:
    """Let a model live on a pod whose log we write, and return that."""
    pod.check("mkdir -p .pi/models .vllm_logs; PI_MODEL_UID=silent setsid sleep 1000 > /dev/null 2>&1 < /dev/null &")
    record = {"uid": "silent", "name": "q", "port": 1, "gpu": "0", "pid": 1, "since": 1}
    (pod.home / ".pi/models/silent.json").write_text(json.dumps(record))
    log = pod.home / ".vllm_logs/q.log"
    log.write_bytes(said)
    return log


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_leaving_ends_the_reader_and_not_the_model(pi: Pi, pod: OpensshPod, number: signal.Signals) -> None:
    """Faults 27 and 59."""
    start(pi)
    with begin("logs", "q", "-n", "1") as process:
        assert process.stdout
        process.stdout.readline()
        assert watchers(pod)
        process.send_signal(number)
        assert seconds_until_end(process) < 1
        assert process.returncode == (130 if number == signal.SIGINT else -number)
        assert process.stderr
        assert process.stderr.read() == ""
    until(lambda: watchers(pod) == [], seconds=3)
    assert servers(pod)
    assert pi("list", "--json").json[0]["status"] == "ready"


def test_leaving_an_unread_flood_ends_its_reader(pod: OpensshPod) -> None:
    """Fault 59."""
    log_of_silent_model(pod, b"x" * (32 << 20))
    with begin("logs", "q", "-n", "all") as process:
        assert process.stdout
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert seconds_until_end(process) < 1
        assert process.returncode == 130
    until(lambda: watchers(pod) == [], seconds=3)


def test_a_reader_that_goes_away_ends_it(pi: Pi, pod: OpensshPod) -> None:
    """Fault 60."""
    start(pi, own=("--vllm", "--simulate", "slow=0.2", "--simulate", "spam=2000"))
    with begin("logs", "q") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert seconds_until_end(process) < 5
        assert process.stderr.read() == ""
    until(lambda: watchers(pod) == [], seconds=5)
    assert servers(pod)


def test_a_killed_session_does_not_end_the_log(pod: OpensshPod) -> None:
    """Fault 6."""
    log = log_of_silent_model(pod, b"one\n")
    with watching("q") as watched:
        watched.until_out(b"one\n")
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        append(log, b"two\n")
        watched.until_out(b"one\ntwo\n")
        until(lambda: watched.err == LOST + BACK)
        until(lambda: len(watchers(pod)) == 1, seconds=5)
        append(log, b"three\n")
        watched.until_out(b"one\ntwo\nthree\n")


def test_a_link_cut_in_a_flood_loses_and_repeats_nothing(pod: OpensshPod) -> None:
    """Fault 4: bytes that were under way come once more, those that had come do not."""
    said = random.Random(4).randbytes(12_000_000)
    log_of_silent_model(pod, said)
    words = ("q", "--pod", "far", "-n", "all", "--no-follow")
    with way_to(pod, "far", reset_after=4_000_000) as way, watching(*words) as watched:
        watched.until_out(said, seconds=60)
        assert watched.process.wait(10) == 0
        assert way.met > 2


def test_a_link_that_was_silent_for_a_minute_is_caught_up_with(prepare: Prepare) -> None:
    """Fault 5: the silence is noticed, and said once; another pod's log goes on meanwhile."""
    pod, other = prepare("dc1"), prepare("dc2")
    log, others = log_of_silent_model(pod, b"one\n"), log_of_silent_model(other)
    with way_to(pod, "far") as way, watching("q", "--pod", "far", "--pod", "dc2") as watched:
        watched.until_out("far/q │ one\n".encode())
        way.fall_silent()
        begun = time.monotonic()
        append(others, b"two\n")
        watched.until_out("far/q │ one\ndc2/q │ two\n".encode(), seconds=5)
        watched.until_err("the connection to `far` was lost", seconds=40)
        append(log, b"three\n")
        until(lambda: time.monotonic() - begun > 60, seconds=70)
        way.speak_again()
        watched.until_out("far/q │ one\ndc2/q │ two\nfar/q │ three\n".encode(), seconds=60)
        assert watched.err == (LOST + BACK).replace("dc1", "far")


def test_it_ends_by_itself_when_the_model_dies(pi: Pi, pod: OpensshPod) -> None:
    start(pi)
    with begin("logs", "q", "-n", "1") as process:
        assert process.stdout
        process.stdout.readline()
        pod.check(f"kill -KILL {' '.join(str(each.pid) for each in living(pod) if 'PI_MODEL_UID' in each.environ)}")
        said = process.communicate(timeout=8)[1]
    assert process.returncode == 0
    assert said == "note: `q` has exited: its log does not show why\n"
    assert living(pod) == []

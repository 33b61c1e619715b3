"""How many answers a command waits for, one after the other: what a user far from the pod feels.

Counted on a wire (`tests/lab/wire.py`), the opening of the connection included, for a pod that pi knows.
"""

import time
from collections.abc import Iterator

import pytest

from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.lab.wire import Wire, round_trips
from tests.openssh.at_work import MODEL, QUICK, begin, ended, start

pytestmark = pytest.mark.usefixtures("wires")

# What was counted (OpenSSH 9.2, the public port open) in November 2026, and two more for a machine that is busy.
LIST, LIST_AGAIN = 3.0 + 2, 1.4 + 2
LOGS = 2.6 + 2
SSH = 4.0 + 2
STOP = 4.4 + 2
START = 8.7 + 2  # with `--detach`


@pytest.fixture
def way(pod: OpensshPod) -> Iterator[Wire]:
    with Wire(pod) as way:
        yield way


@pytest.fixture
def holding(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let pi hold its links, until the test ends."""
    monkeypatch.setenv("PI_HOLD", "1")
    yield
    pi("pods", "unlink")


def seconds(*words: str) -> float:
    began = time.perf_counter()
    done = ended(begin(*words))
    assert done.code == 0, done.err
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("words", "most"),
    [(("list",), LIST), (("logs", "q", "-n", "1", "--no-follow"), LOGS), (("ssh", "dc1", "true"), SSH)],
    ids=["list", "logs", "ssh"],
)
def test_a_question_takes_few_round_trips(pi: Pi, way: Wire, words: tuple[str, ...], most: float) -> None:
    start(pi)
    assert round_trips(lambda: seconds(*words), way, enough=most) <= most


@pytest.mark.usefixtures("holding")
def test_a_question_asked_again_takes_few_round_trips(pi: Pi, way: Wire) -> None:
    start(pi)
    assert round_trips(lambda: seconds("list"), way, enough=LIST_AGAIN) <= LIST_AGAIN


def test_a_start_inspects_the_pod_and_launches_in_one_exchange(pi: Pi, way: Wire) -> None:
    def launch() -> float:
        taken = seconds("start", MODEL, "--name", "q", "--detach", *QUICK)
        distance = way.round_trip
        way.set()
        assert pi("stop", "q").code == 0
        way.set(round_trip=distance)
        return taken

    assert round_trips(launch, way, enough=START) <= START


def test_a_stop_takes_few_round_trips(pi: Pi, way: Wire) -> None:
    def stop() -> float:
        distance = way.round_trip
        way.set()
        start(pi)
        way.set(round_trip=distance)
        return seconds("stop", "q")

    assert round_trips(stop, way, enough=STOP) <= STOP

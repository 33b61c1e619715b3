"""Held links on a real sshd: the round trips of a second command, and what sshd and the kernel see of a link."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from pi_cli.hold import client
from tests.commands.test_held_links import holders
from tests.conftest import Pi
from tests.lab.openssh import OpensshPod
from tests.lab.wire import Wire, round_trips
from tests.openssh.at_work import QUICK, begin, ended, start
from tests.until import until

pytestmark = pytest.mark.usefixtures("wires")
MOST = 2.0  # round trips of a second command: one is needed


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch, environment: object) -> Iterator[None]:
    assert environment
    monkeypatch.setenv("PI_HOLD", "1")
    yield
    for pid in holders():
        with suppress(ProcessLookupError):  # it may be ending by itself
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def way(pod: OpensshPod) -> Iterator[Wire]:
    with Wire(pod) as way:
        yield way


def link() -> None:
    until(lambda: client.linked() == ["dc1"], "dc1 is linked")


def seconds(*words: str) -> float:
    link()
    began = time.perf_counter()
    done = ended(begin(*words))
    assert done.code == 0, done.err
    return time.perf_counter() - began


@pytest.mark.parametrize("words", [("list",), ("logs", "q", "-n", "1", "--no-follow")], ids=lambda words: words[0])
def test_a_second_question_takes_a_round_trip(pi: Pi, way: Wire, words: tuple[str, ...]) -> None:
    start(pi, own=("--private", *QUICK))
    assert pi("list").code == 0
    count = round_trips(lambda: seconds(*words), way, enough=MOST)
    assert count <= MOST


def test_what_changes_something_takes_two(pi: Pi, way: Wire) -> None:
    """The first finds out whether the link lives, before anything is asked."""

    def stop() -> float:
        distance = way.round_trip
        way.set()
        start(pi, own=("--private", *QUICK))
        assert pi("list").code == 0
        way.set(round_trip=distance)
        return seconds("stop", "q")

    count = round_trips(stop, way, enough=MOST + 0.5)
    assert count <= MOST + 0.5

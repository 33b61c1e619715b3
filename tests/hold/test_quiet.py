"""When the agents that wait for the next requests are sent: at once for few pods, for many when all have answered."""

from contextlib import ExitStack

import pytest

from pi_cli.hold import link
from pi_cli.hold.quiet import FEW, MOMENT, Quiet


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(link, "clock", clock := Clock())
    return clock


def test_the_last_of_many_answers_lets_agents_be_sent(clock: Clock) -> None:
    sent: list[float] = []
    quiet = Quiet(lambda: sent.append(clock.now))
    requests = [ExitStack() for _ in range(64)]
    for each in requests:
        each.enter_context(quiet.asking())
        clock.now += 0.001
    assert len(sent) == FEW
    for each in requests[:-1]:
        each.close()
    quiet.look()
    assert len(sent) == FEW
    requests[-1].close()
    assert len(sent) == FEW + 1


def test_a_request_that_runs_for_long_delays_nothing(clock: Clock) -> None:
    sent: list[float] = []
    quiet = Quiet(lambda: sent.append(clock.now))
    with quiet.asking():
        before = len(sent)
        with quiet.asking():
            pass
        assert len(sent) == before + 1
        clock.now += 1.1 * MOMENT
        with quiet.asking():
            pass
        assert len(sent) == before + 3


def test_a_request_that_fails_is_over_too(clock: Clock) -> None:
    sent: list[float] = []
    with pytest.raises(OSError, match="lost"), Quiet(lambda: sent.append(clock.now)).asking():
        raise OSError("lost")
    assert len(sent) == 2

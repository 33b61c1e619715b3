"""`pi logs` over real sshd: watching ends with us, the model does not."""

import signal

import pytest

from tests.conftest import Pi
from tests.lab.openssh import OpensshPod, Process
from tests.openssh.at_work import begin, living, seconds_until_end, servers, session_of_sshd, start
from tests.until import until

pytestmark = [pytest.mark.openssh, pytest.mark.timeout(300)]  # the first test makes the lab


def watchers(pod: OpensshPod) -> list[Process]:
    """Return the agent and its tail."""
    return [each for each in living(pod) if "PI_MODEL_UID" not in each.environ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_leaving_ends_the_tail_and_not_the_model(pi: Pi, pod: OpensshPod, number: signal.Signals) -> None:
    """Faults 27 and 59."""
    start(pi)
    with begin("logs", "q", "-n", "1") as watching:
        assert watching.stdout
        watching.stdout.readline()
        assert watchers(pod)
        watching.send_signal(number)
        assert seconds_until_end(watching) < 1
        assert watching.returncode == (130 if number == signal.SIGINT else -number)
        assert watching.stderr
        assert watching.stderr.read() == ""
    until(lambda: watchers(pod) == [], seconds=3)
    assert servers(pod)
    assert pi("list", "--json").json[0]["status"] == "ready"


def test_a_reader_that_goes_away_ends_it(pi: Pi, pod: OpensshPod) -> None:
    """Fault 60."""
    start(pi, own=("--vllm", "--simulate", "slow=0.2", "spam=2000"))
    with begin("logs", "q") as watching:
        assert watching.stdout
        assert watching.stderr
        watching.stdout.readline()
        watching.stdout.close()
        assert seconds_until_end(watching) < 5
        assert watching.stderr.read() == ""
    until(lambda: watchers(pod) == [], seconds=5)
    assert servers(pod)


def test_a_lost_session_is_no_end_of_the_log(pi: Pi, pod: OpensshPod) -> None:
    """Fault 6."""
    start(pi)
    with begin("logs", "q", "-n", "1") as watching:
        assert watching.stdout
        watching.stdout.readline()
        pod.check(f"kill -KILL {session_of_sshd(pod).pid}")
        said = watching.communicate(timeout=5)[1]
    assert watching.returncode == 3
    assert "error: cannot reach pod `dc1`: the connection was lost" in said
    assert "has ended" not in said
    until(lambda: watchers(pod) == [], seconds=5)


def test_it_ends_by_itself_when_the_model_dies(pi: Pi, pod: OpensshPod) -> None:
    start(pi)
    with begin("logs", "q", "-n", "1") as watching:
        assert watching.stdout
        watching.stdout.readline()
        pod.check(f"kill -KILL {' '.join(str(each.pid) for each in living(pod) if 'PI_MODEL_UID' in each.environ)}")
        said = watching.communicate(timeout=8)[1]
    assert watching.returncode == 0
    assert "`q` has ended" in said
    assert living(pod) == []

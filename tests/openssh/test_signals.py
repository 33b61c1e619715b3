"""SIGTERM and SIGHUP end commands in the background of a script, where SIGINT is ignored; on a real sshd."""

import shlex
import signal
from collections.abc import Callable

import pytest

from tests.commands.staying import Staying, staying
from tests.conftest import Pi, pods_json
from tests.lab import prepared
from tests.openssh.at_work import MODEL, SLOW, TOOLS, living, servers, start
from tests.openssh.conftest import Prepare
from tests.until import until

SIGNALS = [signal.SIGTERM, signal.SIGHUP]


def ended(command: Staying, number: signal.Signals) -> None:
    command.process.send_signal(signal.SIGINT)  # ignored
    assert command.end(number) == 128 + number
    assert "Traceback" not in "".join(command.err)


@pytest.mark.parametrize("number", SIGNALS)
def test_commands_that_use_a_model_end_and_leave_it_alone(pi: Pi, prepare: Prepare, number: signal.Signals) -> None:
    pod = prepare("dc1")
    start(pi, own=("--vllm", "--simulate", "slow=0.2", "--simulate", "rate=3", *TOOLS))
    model = {each.pid for each in living(pod)}
    at_work: dict[str, Callable[[Staying], object]] = {
        "forward q": lambda command: command.prints(),
        "logs q": lambda command: command.prints(3),
        "run q -- sh -c echo\\ ready;sleep\\ 600": lambda command: command.prints(),
        "prompt q Count": lambda _: until(lambda: pi("list", "--json").json[0]["requests_running"] == 1),
    }
    for words, is_at_work in at_work.items():
        with staying(*shlex.split(words), TESTS_IGNORE_SIGINT="1") as command:
            is_at_work(command)
            ended(command, number)
        until(lambda: {each.pid for each in living(pod)} == model, f"only the model is left after {words}")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["downloading", "loading weights"])
def test_a_start_is_rolled_back(pi: Pi, prepare: Prepare, number: signal.Signals, moment: str) -> None:
    pod = prepare("dc1")
    prepared.pace_downloads(pod, seconds=60 if moment == "downloading" else 0.1)
    with staying("start", MODEL, "--name", "q", *SLOW, TESTS_IGNORE_SIGINT="1") as starting:
        starting.says(moment)
        until(lambda: living(pod) if moment == "downloading" else servers(pod))
        ended(starting, number)
    until(lambda: living(pod) == [])
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert pi("list", "--json").json == []

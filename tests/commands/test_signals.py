"""SIGTERM and SIGHUP end every command, also in the background of a script, whose shell has it ignore SIGINT."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served, write_entry
from tests.commands.staying import Staying, staying
from tests.conftest import Pi, pods_json
from tests.terminal import at_a_terminal
from tests.until import until

pytestmark = pytest.mark.xdist_group("signals")

SIGNALS = [signal.SIGTERM, signal.SIGHUP]
TOOLS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
AT_WORK: dict[str, Callable[[Staying], object]] = {
    "forward q": lambda command: command.prints(),
    "logs q": lambda command: command.prints(3),
    "list --watch --json": lambda command: command.prints(),
    "run q -- sleep 600": lambda command: until(lambda: children(command.process.pid)),
}


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(each) for each in file.read().split()]


@contextmanager
def in_a_script(*words: str) -> Iterator[Staying]:
    """Run pi as the shell of a script does with `&`: SIGINT is ignored."""
    with staying(*words, TESTS_IGNORE_SIGINT="1") as command:
        yield command


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    """The module's pod, registered as `dc1`, on which `q` answers slowly."""
    module_pod.register("dc1")
    module_pod.started(pi, "q", "--vllm", *TOOLS, "--simulate", "rate=3")
    return module_pod.pod


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("words", AT_WORK)
def test_a_signal_ends_a_command_in_the_background_of_a_script(
    shared: EmbeddedPod, words: str, number: signal.Signals
) -> None:
    with in_a_script(*words.split()) as command:
        AT_WORK[words](command)
        command.process.send_signal(signal.SIGINT)  # ignored, as the shell asked for
        assert command.end(number) == 128 + number
        assert "Traceback" not in "".join(command.err)
    until(lambda: len(shared.processes()) == 2, "the server and its engine are left")


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("moment", ["downloading", "loading weights"])
def test_a_start_in_the_background_of_a_script_is_rolled_back(
    pod: EmbeddedPod, number: signal.Signals, moment: str
) -> None:
    (pod.home / ".demo" / "hf.json").write_text(json.dumps({"seconds": 60 if moment == "downloading" else 0.1}))
    with in_a_script("start", "Qwen/Qwen3-8B", "--name", "q", "--vllm", "--simulate", "slow=30") as starting:
        starting.says(moment)
        assert starting.end(number) == 128 + number
        assert "Traceback" not in "".join(starting.err)
    until(lambda: pod.processes() == [])
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert list((pod.home / ".pi" / "models").iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_setup_in_the_background_of_a_script_stops_on_the_pod_too(pod: EmbeddedPod, number: signal.Signals) -> None:
    pod.install("uv", "#!/bin/sh\nsetsid sleep 600 &\nsleep 601\n")
    with in_a_script("pods", "setup", "dc1") as setting_up:
        until(lambda: {"600", "601"} <= {process.command[-1] for process in pod.processes()})
        assert setting_up.end(number) == 128 + number
    until(lambda: pod.processes() == [])
    assert "setup of `dc1` was interrupted" in setting_up.err[-1]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_an_answer_in_the_background_of_a_script(
    pi: Pi, shared: EmbeddedPod, number: signal.Signals
) -> None:
    with in_a_script("prompt", "q", "Count to 100") as command:
        until(lambda: pi("list", "--json").json[0]["requests_running"] == 1)
        assert command.end(number) == 128 + number
        assert "Traceback" not in "".join(command.err)
    until(lambda: pi("list", "--json").json[0]["requests_running"] == 0)
    assert shared.processes()


@pytest.mark.parametrize("words", ["check q", "pods remove dc1 --purge --yes", "stop q", "why q", "env q"])
def test_a_command_that_waits_for_a_pod_ends_too(pod: EmbeddedPod, words: str) -> None:
    """The agent of this pod says nothing."""
    write_entry("q", "dc1", {"model": "Qwen/Qwen3-8B", "port": 8001, "gpu": "0", "pid": 7})
    pod.install("python3", "#!/bin/sh\nexec sleep 600\n")
    with in_a_script(*words.split()) as command:
        until(lambda: any("sleep" in process.command for process in pod.processes()), f"an agent runs: {command.err}")
        assert command.end(signal.SIGTERM) == 143
        assert "Traceback" not in "".join(command.err)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("words", ["top", "prompt q -i"])
@pytest.mark.usefixtures("shared")
def test_a_signal_ends_what_has_the_terminal(words: str, number: signal.Signals) -> None:
    with at_a_terminal(*words.split()) as terminal:
        if words == "top":
            terminal.shows("dc1/q")
        else:
            terminal.asks()
        terminal.process.send_signal(number)
        assert terminal.wait() == 128 + number


def test_what_nohup_started_keeps_running_when_the_terminal_is_closed(shared: EmbeddedPod) -> None:
    with staying("forward", "q", TESTS_IGNORE_SIGHUP="1") as forward:
        forward.prints()
        forward.process.send_signal(signal.SIGHUP)
        assert forward.end(signal.SIGTERM) == 143
    assert shared.processes()


@pytest.mark.parametrize("number", SIGNALS)
def test_the_demo_removes_its_pod(number: signal.Signals) -> None:
    with in_a_script("demo", "--keep") as demo:
        until(lambda: any("pi start" in line for line in demo.out), seconds=60)
        folder = next(line for line in demo.out if "PI_CONFIG_DIR" in line).partition("=")[2].removesuffix("/config")
        assert os.path.isdir(folder)  # noqa: PTH112
        assert demo.end(number) == 128 + number
        assert not os.path.exists(folder)  # noqa: PTH110

"""`pi top`: one request to each pod for each look, a screen that is left as it was, and a table for pipes."""

import signal
import struct
import termios
from collections.abc import Callable
from fcntl import ioctl

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.conftest import Pi, pods_json
from tests.terminal import Terminal, at_a_terminal
from tests.until import until

pytestmark = pytest.mark.xdist_group("top")

QUICKLY = ("--interval", "0.5")


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    """The module's pod, registered as `dc1`, on which `q` runs."""
    module_pod.register("dc1")
    module_pod.started(pi, "q")
    return module_pod.pod


def test_two_looks_are_two_requests_over_one_connection_and_change_nothing(pi: Pi, shared: EmbeddedPod) -> None:
    before, asked = pods_json(), len(shared.commands)
    result = pi("top", *QUICKLY)
    assert (result.code, result.err) == (0, "")
    assert len(shared.commands) - asked == 2
    assert pods_json() == before
    lines = result.out.splitlines()
    assert lines[1].split()[:2] == ["dc1/0", "H100"]
    header = lines.index("") + 1
    titles = ["MODEL", "STATUS", "RUN", "WAIT", "IN/S", "OUT/S", "KV", "TTFT", "GPUS", "SERVES"]
    assert lines[header].split() == titles
    assert lines[header + 1].split() == ["dc1/q", "ready", "0", "0", "0", "0", "0%", "-", "0", "Qwen/Qwen3-8B"]


def test_json_has_a_line_for_each_pod(pi: Pi, shared: EmbeddedPod) -> None:
    shared.commands.clear()
    loads = pi("top", "--json", *QUICKLY).json
    assert (loads["pod"], loads["error"], len(loads["gpus"])) == ("dc1", None, 8)
    assert loads["gpus"][0].keys() == {
        "id", "name", "mig", "use_percent", "memory_used_mib", "memory_total_mib", "power_watts", "power_limit_watts",
        "temperature_celsius",
    }  # fmt: skip
    [model] = loads["models"]
    assert model.keys() == {
        "pod", "name", "model", "port", "gpu", "gpus", "pid", "status", "age_seconds",
        "requests_running", "requests_waiting",
        "tokens_in_per_second", "tokens_out_per_second", "kv_cache_percent", "first_token_seconds", "lease",
    }  # fmt: skip
    assert (model["name"], model["tokens_out_per_second"], model["requests_running"]) == ("q", 0.0, 0)


def test_a_pod_that_does_not_answer_costs_its_own_rows(
    pi: Pi, shared: EmbeddedPod, embed: Callable[..., EmbeddedPod]
) -> None:
    embed("dc2").close()
    result = pi("top", *QUICKLY)
    assert result.code == 3
    assert "dc1/q  ready" in result.out
    assert "cannot reach pod `dc2`" in result.out
    assert shared.processes()


@pytest.mark.parametrize("interval", ["0", "0.1", "-1", "nan", "1e9"])
def test_an_interval_out_of_range_is_refused(pi: Pi, shared: EmbeddedPod, interval: str) -> None:
    result = pi("top", f"--interval={interval}")
    assert result.code == 2
    assert "is not an interval that pi uses" in result.err
    assert shared.processes()


def is_as_it_was(terminal: Terminal) -> bool:
    """Return whether the alternate screen was left, with a cursor, and lines are edited and echoed again."""
    flags = termios.tcgetattr(terminal.keys)[3]
    modes = termios.ECHO | termios.ICANON | termios.ISIG
    return flags & modes == modes and terminal.raw.endswith("\x1b[0m\x1b[?25h\x1b[?1049l")


def frame(terminal: Terminal) -> list[str]:
    return terminal.raw.rpartition("\x1b[H")[2].split("\r\n")


def test_keys_follow_the_log_stop_a_model_after_a_question_and_leave_the_terminal_as_it_was(
    pi: Pi, pod: EmbeddedPod
) -> None:
    assert pi("start", "Qwen/Qwen3-8B", "--name", "q").code == 0
    with at_a_terminal("top", *QUICKLY) as terminal:
        terminal.shows("dc1/q  ready")
        assert terminal.raw.startswith("\x1b[?1049h\x1b[?25l")
        ioctl(terminal.keys, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 100, 0, 0))
        until(lambda: len(frame(terminal)) == 6)
        terminal.type("s")
        ioctl(terminal.keys, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        terminal.shows("sorted by out/s")
        terminal.type("l")
        terminal.shows("the log of dc1/q; q goes back")
        terminal.shows("Application startup complete")
        looks = terminal.text.count("sorted by")
        terminal.type("\x03")
        until(lambda: terminal.text.count("sorted by") > looks)
        terminal.type("x")
        terminal.shows("stop dc1/q? [y/N]")
        terminal.type("n")
        terminal.type("x")
        terminal.shows("stop dc1/q? [y/N]", times=2)
        assert pod.processes()
        terminal.type("y")
        terminal.shows("stopped dc1/q")
        terminal.shows("no models run")
        terminal.type("q")
        assert terminal.wait() == 0
        until(lambda: is_as_it_was(terminal))
    assert pods_json()["pods"]["dc1"]["models"] == {}
    assert not pod.processes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"])
def test_a_signal_gives_the_terminal_back(shared: EmbeddedPod, number: signal.Signals, code: int) -> None:
    with at_a_terminal("top", *QUICKLY) as terminal:
        terminal.shows("dc1/q  ready")
        terminal.process.send_signal(number)
        assert terminal.wait() == code
        until(lambda: is_as_it_was(terminal))
    assert shared.processes()

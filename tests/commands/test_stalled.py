"""A model that takes requests and answers none is `stalled`: its engine hangs, and its server looks healthy."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.served import Served
from tests.commands.staying import staying
from tests.conftest import Pi
from tests.until import until

pytestmark = pytest.mark.xdist_group("stalled")


@pytest.fixture
def shared(pi: Pi, module_pod: Served) -> EmbeddedPod:
    """The module's pod, registered as `dc1`, on which `q` answers slowly."""
    module_pod.register("dc1")
    module_pod.started(pi, "q", "--vllm", "--reasoning-parser", "qwen3", "--simulate", "rate=3")
    return module_pod.pod


@contextmanager
def hanging(pod: EmbeddedPod) -> Iterator[None]:
    """Stop the engine, and let it go on at the end."""
    [engine] = [process.pid for process in pod.processes() if "EngineCore" in process.command[0]]
    os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine, signal.SIGCONT)


def status(pi: Pi) -> str:
    [listed] = pi("list", "--json").json
    return str(listed["status"])


def test_a_busy_model_is_ready_and_is_not_asked(pi: Pi, shared: EmbeddedPod) -> None:
    with staying("prompt", "q", "Count to 100"):
        until(lambda: pi("list", "--json").json[0]["requests_running"] == 1)
        assert status(pi) == "ready"
        assert pi("list", "--json").json[0]["requests_running"] == 1
    assert shared.processes()


def test_a_model_whose_engine_hangs_is_stalled_everywhere(pi: Pi, shared: EmbeddedPod) -> None:
    with hanging(shared), staying("prompt", "q", "Count to 100") as asking, staying("check", "q") as checking:
        until(lambda: status(pi) == "stalled", seconds=60)
        assert "stalled" in pi("top", "--interval", "0.5").out
        assert asking.process.wait(60) == 6
        assert "error: `q` is stalled: it takes requests, and its engine answers none\n" in "\n".join(asking.err) + "\n"
        assert checking.process.wait(60) == 1
        assert checking.out[-1].startswith("✗ answer")
        assert checking.out[-1].endswith(
            "it takes requests, and its engine answers none; the other checks were left out"
        )
    until(lambda: status(pi) == "ready")

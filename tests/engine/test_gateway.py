"""A real vLLM behind `pi gateway`: official clients get what they get from the engine itself, tools and streams too."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.engine.conftest import Engine
from tests.engine.test_endpoints import WITH_ANTHROPIC, WITH_OPENAI
from tests.engine.test_main_job import START
from tests.until import until


@pytest.fixture(scope="module")
def tiny(engine: Engine) -> Iterator[Engine]:
    """The pod with the tiny model, and a gateway in front of it; afterwards it is without models."""
    assert engine.setup.code == 0, engine.setup.err
    started = engine.pi(*START)
    assert started.code == 0, started.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "pi_cli", "gateway", "tiny", "--port", port]
    with subprocess.Popen(command, env=engine.settings, stdout=subprocess.PIPE, text=True) as gateway:
        assert gateway.stdout
        assert gateway.stdout.readline() == f"http://127.0.0.1:{port}/v1\n"
        yield engine
        gateway.send_signal(signal.SIGINT)
        assert gateway.wait(20) == 130
    engine.pi("stop", "--all")
    until(lambda: not [each for each in engine.pod.processes() if "PI_MODEL_UID" in each.environ])


@pytest.mark.parametrize("script", [WITH_OPENAI, WITH_ANTHROPIC], ids=["openai", "anthropic"])
def test_clients_get_the_same_answers_through_it(tiny: Engine, script: str) -> None:
    direct = tiny.pi("run", "tiny", "--", sys.executable, "-c", script)
    through = tiny.pi("run", "--gateway", "tiny", "--", sys.executable, "-c", script)
    assert (direct.code, through.code) == (0, 0), through.err
    assert through.out == direct.out

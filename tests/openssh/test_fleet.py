"""A fleet of three embedded pods and one with a real sshd: from a file to one URL in two commands; one is replaced."""

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from tests.commands.load import PLAIN, ask, load
from tests.commands.staying import staying
from tests.conftest import Pi
from tests.lab import prepared
from tests.until import until

from .conftest import Prepare

MODEL = "Qwen/Qwen3-8B"


@pytest.fixture
def embedded() -> Iterator[list[EmbeddedPod]]:
    """Make four machines that were never set up."""
    with ExitStack() as stack:
        pods = [stack.enter_context(EmbeddedPod("2x H100 80GB")) for _ in range(4)]
        for pod in pods:
            for program in ("hf", "vllm"):
                (pod.home / ".demo" / f"{program}.json").write_text('{"seconds": 0.2}')
        yield pods


def requests_at(pi: Pi, pod: str) -> int:
    """Return how many requests a pod got through the gateway since its balancer knows it."""
    [gateway] = pi("gateway", "status", "--json").json
    return sum(each["requests"] or 0 for each in gateway["replicas"] if each["pod"] == pod)


@pytest.mark.timeout(300)
def test_a_file_becomes_one_url_in_two_commands_and_a_pod_that_was_taken_is_replaced(
    pi: Pi, embedded: list[EmbeddedPod], prepare: Prepare, tmp_path: Path
) -> None:
    *first, new = embedded
    real = prepare("dc4", registered=False)
    prepared.simulate_installers(real)
    commands = {f"dc{number}": pod.ssh for number, pod in enumerate(first, start=1)} | {"dc4": real.ssh}
    tables = [f"[pods.{name}]\nssh = {json.dumps(ssh)}\n" for name, ssh in commands.items()]
    file = tmp_path / "pi.toml"
    file.write_text("\n".join([*tables, f'[models.q]\nmodel = "{MODEL}"\npods = {json.dumps([*commands])}\n']))

    up = pi("up", "--file", str(file), timeout=150)
    assert up.code == 0, up.err
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with staying("gateway", "--all", "--port", str(port), "--policy", "round_robin") as gateway:
        [url] = gateway.prints()
        for name in commands:
            gateway.says(f"`q` on `{name}` is up")
        until(lambda: ask(url, PLAIN).status_code == 200 and all(requests_at(pi, name) for name in commands))

        with load(url, clients=1) as counted:
            first[0].close()  # its provider took it
            gateway.says("`q` on `dc1` is down")
            again = pi("up", "dc1", "--ssh", new.ssh, "--file", str(file), "--yes", timeout=150)
            assert again.code == 0, again.err
            gateway.says("`dc1` is another machine now")
            gateway.says("`q` on `dc1` is up", times=2)
            until(lambda: requests_at(pi, "dc1"), "the new machine gets requests")
        assert counted.failed == {}
        assert gateway.end(signal.SIGINT, timeout=30) == 130
    check = pi("up", "--check", "--file", str(file), timeout=60)
    assert check.code == 0, check.out + check.err
    assert new.ssh in file.read_text()

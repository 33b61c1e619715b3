"""An embedded pod per test, and plain SSH to it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

import asyncssh
import pytest

from pi_cli.demo.pod import EmbeddedPod


@dataclass(frozen=True)
class Outcome:
    """The exit status and the output of a remote command."""

    status: int | None
    signal: str | None
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode()


def connect(pod: EmbeddedPod) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    """Log in, accepting only the pod's current host key."""
    return asyncssh.connect(
        pod.address,
        pod.port,
        username="root",
        client_keys=[str(pod.key)],
        known_hosts=asyncssh.import_known_hosts(f"* {pod.host_key}"),
        config=None,
        agent_path=None,
    )


def ssh(pod: EmbeddedPod, command: str, input: bytes = b"") -> Outcome:
    """Run one command on a new connection."""

    async def run() -> Outcome:
        async with connect(pod) as connection:
            done = await connection.run(command, input=input, encoding=None)
        signal = done.exit_signal[0] if done.exit_signal else None
        assert isinstance(done.stdout, bytes)
        assert isinstance(done.stderr, bytes)
        return Outcome(done.exit_status, signal, done.stdout, done.stderr)

    return asyncio.run(run())


Shell = Callable[..., Outcome]


@pytest.fixture
def machine() -> Iterator[EmbeddedPod]:
    with EmbeddedPod("2x H100 80GB") as pod:
        yield pod


@pytest.fixture
def shell(machine: EmbeddedPod) -> Shell:
    """Return a function that runs a command on this test's pod."""
    return partial(ssh, machine)

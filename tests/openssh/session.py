"""A login as pi makes it, in the test's own process, and the same by the user's own ssh."""

import asyncio
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pi_cli.ssh import login
from pi_cli.ssh.passphrases import Keyring, keyring
from pi_cli.ssh.session import PodSession
from tests.lab.openssh import OpensshPod

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")  # where no lab is used

BELIEVING = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes")


def said(
    ssh: str,
    command: str = "id -un",
    *,
    answers: list[str] | None = None,
    ask: Callable[[str], str] | None = None,
    learn: bool = True,
    connect_timeout: float | None = None,
    forwarding: bool = False,
) -> str:
    """Log in and return what a command says. `answers` are typed where a passphrase is asked for, or `ask` gives it."""

    def next_answer(question: str) -> str:
        assert answers, question
        return answers.pop(0)

    answer = ask or (None if answers is None else next_answer)

    async def type_it(question: str) -> str:
        assert answer
        return answer(question)

    async def visit() -> str:
        keyring.set(Keyring(ask=type_it if answer else None))
        async with login.connect("dc1", ssh, learn=learn, connect_timeout=connect_timeout) as session:
            if forwarding:
                await session.require_forwarding()
            return (await session.run(command)).stdout.decode().strip()

    return asyncio.run(visit())


def learn(pod: OpensshPod, ssh: str | None = None, *, accept_new: bool = False) -> PodSession:
    """Do what `pi pods setup` does before anything else, and return the session, which is closed."""

    async def meet() -> PodSession:
        async with login.connect(pod.name, ssh or pod.ssh, learn=True, accept_new=accept_new) as session:
            return session

    return asyncio.run(meet())


def ssh_says(config: Path, host: str, command: str = "id -un") -> str:
    """Return what the user's own ssh gets to hear."""
    argv = ["ssh", "-F", str(config), *BELIEVING, *shlex.split(host), command]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

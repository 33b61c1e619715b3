"""The SSH keys of this machine, for `pi doctor`: names and types only."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from pi_cli.ssh.quick_asyncssh import asyncssh

AGENT_TIMEOUT = 2.0  # seconds


async def in_agent() -> list[str] | None:
    """Return the types of the keys that the SSH agent holds; None if there is no agent, or it does not answer."""
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return None
    with suppress(OSError, ValueError, TimeoutError):
        async with asyncio.timeout(AGENT_TIMEOUT):
            async with await asyncssh.connect_agent(path) as agent:
                return [pair.algorithm.decode("ascii", "replace") for pair in await agent.get_keys()]
    return None


def files() -> list[str]:
    """Return the names of the private keys in `~/.ssh` under ssh's default names."""
    folder = Path.home() / ".ssh"
    with suppress(OSError):
        return sorted(file.name for file in folder.glob("id_*") if file.suffix != ".pub" and file.is_file())
    return []

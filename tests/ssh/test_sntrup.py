"""The key exchange of servers that allow only post-quantum ones; `tests/openssh/test_key_exchange.py` asks OpenSSH."""

import asyncio
from pathlib import Path

import pytest

from pi_cli.demo.pod import EmbeddedPod
from pi_cli.ssh import algorithms, login, sntrup
from pi_cli.ssh.quick_asyncssh import asyncssh
from pi_cli.ssh.sntrup import Sntrup


def test_both_ends_get_the_same_secret_and_a_changed_ciphertext_is_refused() -> None:
    key = Sntrup()
    secret, ciphertext = key.encaps(key.get_public())
    assert (len(key.get_public()), len(ciphertext), len(secret)) == (1158, 1039, 32)
    assert key.decaps(ciphertext) == secret
    changed = bytearray(ciphertext)
    for place in (0, sntrup.ROUNDED_LENGTH - 1, sntrup.ROUNDED_LENGTH, len(ciphertext) - 1):
        changed[place] ^= 1
        with pytest.raises(ValueError, match="a ciphertext"):
            key.decaps(bytes(changed))
        changed[place] ^= 1
    with pytest.raises(ValueError, match="of another length"):
        key.decaps(ciphertext[:-1])


@pytest.mark.parametrize("name", [sntrup.NAMES[-1], algorithms.ML_KEM])
def test_a_server_that_allows_only_a_post_quantum_exchange_is_reached(environment: Path, name: str) -> None:
    """Also by a user whose own ssh does not know the exchange, unless the configuration has a list of its own."""
    used = []

    async def log_in(machine: EmbeddedPod) -> None:
        machine._sshd._acceptor.update(kex_algs=[name])
        async with login.connect("dc1", machine.ssh, learn=True) as session:
            used.append(session._connection.get_extra_info("server_version"))

    del environment
    with EmbeddedPod() as machine:
        asyncio.run(log_in(machine))
    assert used


def test_the_slow_exchange_is_the_last_choice() -> None:
    names = [name.decode() for name in asyncssh.kex.get_default_kex_algs()]
    assert names[-2:] == list(sntrup.NAMES)

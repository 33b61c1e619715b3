"""Keys with a passphrase."""

import asyncssh

from pi_cli.demo.pod import EmbeddedPod

ROUNDS = 16  # as many as `ssh-keygen` uses; with those of asyncssh, unlocking the key takes eight times as long


def lock(pod: EmbeddedPod, passphrase: str) -> None:
    """Encrypt the key that logs in."""
    key = asyncssh.read_private_key(pod.key)
    key.write_private_key(pod.key, passphrase=passphrase, rounds=ROUNDS, ignore_few_rounds=True)

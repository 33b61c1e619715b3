"""What a connection is opened for, which can travel with the login (`early`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class First:
    """The first command of a connection, and what may be on its stdin before the login is complete."""

    command: str
    input: bytes = b""
    environment: tuple[tuple[str, str], ...] = ()  # variables and their values; sshd takes those of its `AcceptEnv`

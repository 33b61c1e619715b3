"""How a command on a pod has ended, and where its output goes: what is known of it without a connection."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

EXIT_TIMEOUT = 2.0  # seconds for a command to clean up after its stdin ended

OutputSink = Callable[[bytes], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Completed:
    """The output and exit status of a remote command; output is bytes, since remote text may not be UTF-8."""

    status: int
    stdout: bytes
    stderr: bytes

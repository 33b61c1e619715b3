"""The agent's connection to pi: marked lines and beats on stdout, refusals, the end of stdin, the exit."""

import binascii
import json
import os
import select
import sys
import time
import zlib
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from agent import protocol

MARK: "protocol.Mark" = "\x1epi "


class Refused(Exception):
    """The request is refused."""

    def __init__(self, refusal: "protocol.Refusal") -> None:
        super().__init__(refusal["code"])
        self.refusal = refusal


class _Beats:
    """When the agent last sent something; pi expects something every `every` seconds."""

    def __init__(self) -> None:
        self.every = float("inf")
        self.last = time.monotonic()

    def are_due(self) -> bool:
        return time.monotonic() - self.last >= self.every


beats = _Beats()


def emit(message: "protocol.Message") -> None:
    """Write a message as one marked line; JSON escapes line breaks and control characters.

    After pi has disconnected, output is discarded without an error: the agent exits at the end of stdin, since it may
    have to clean up first.
    """
    beats.last = time.monotonic()
    line = "\n" + MARK + json.dumps(message) + "\n"
    try:
        sys.stdout.buffer.write(line.encode("ascii"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unpacked(program: str) -> str:
    """Return a program of a request, which comes compressed and in base64."""
    return zlib.decompress(binascii.a2b_base64(program)).decode("utf-8")


def beat() -> None:
    """Send a beat if one is due: without output for some time, pi assumes that the agent hangs.

    Call it between the steps of work that may take long, never from a thread or a timer: beats must stop when the work
    stops, for example in a system call that never returns.
    """
    if beats.are_due():
        emit({"event": "beat"})


def leave() -> NoReturn:
    """Exit immediately: everything is sent, or pi has disconnected."""
    os._exit(0)


def stdin_ended(seconds: float) -> bool:
    """Wait at most this long; return whether pi has disconnected. pi sends nothing after the request."""
    beat()
    return is_alone(seconds)


def is_alone(seconds: float) -> bool:
    """Do the same without a beat, where the work may hang."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 4096)

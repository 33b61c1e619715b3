"""What the agent sends to pi, and how it ends: marked lines on stdout, beats, refusals, the end of stdin."""

import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, NoReturn, Union

if TYPE_CHECKING:
    from agent import protocol

MARK: "protocol.Mark" = "\x1epi "


class Refused(Exception):
    """The request cannot be done."""

    def __init__(self, refusal: "protocol.Refusal") -> None:
        super().__init__(refusal["code"])
        self.refusal = refusal


class _Beats:
    """When pi last heard from us; `every` is the number of seconds within which it wants to."""

    def __init__(self) -> None:
        self.every = float("inf")
        self.last = time.monotonic()

    def are_due(self) -> bool:
        return time.monotonic() - self.last >= self.every


beats = _Beats()


def emit(message: "Union[protocol.Event, protocol.Answer]") -> None:
    """Write one marked line. JSON keeps newlines and other control characters escaped, so a line is a message.

    Once pi is gone nothing is written any more, and nothing fails: the end of stdin is what ends us, since a caller may
    have to clean up first.
    """
    beats.last = time.monotonic()
    line = "\n" + MARK + json.dumps(message) + "\n"
    try:
        sys.stdout.buffer.write(line.encode("ascii"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def beat() -> None:
    """Show pi that we work: it takes us for hanging after some time of silence.

    To be called between the steps of whatever may take long, and by nothing that runs on its own (a thread, a timer):
    it must stop when the work stops, in a system call that never returns for example.
    """
    if beats.are_due():
        emit({"event": "beat"})


def leave() -> NoReturn:
    """End at once: everything is sent, or pi is gone."""
    os._exit(0)


def stdin_ended(seconds: float) -> bool:
    """Wait that long at most; return whether pi has gone. It sends nothing after the request."""
    beat()
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 4096)

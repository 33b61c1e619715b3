"""What the agent says to pi and how it ends: marked lines on stdout, refusals, the end of stdin."""

import json
import os
import select
import sys
from typing import Any, Dict, NoReturn

MARK = "\x1epi "  # login shells print banners to stdout: only lines that carry this are ours
Json = Dict[str, Any]


class Refused(Exception):
    """The request cannot be done; `code` tells pi which error to show, and `facts` what there is to say about it."""

    def __init__(self, code: str, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.code = code
        self.facts = facts


def emit(**message: Any) -> None:
    """Write one marked line. JSON keeps newlines and other control characters escaped, so a line is a message.

    When nobody reads any more, nothing is said any more, and the end of stdin tells that pi is gone: whoever waits for
    that has something to clean up first.
    """
    line = "\n" + MARK + json.dumps(message) + "\n"
    try:
        sys.stdout.buffer.write(line.encode("ascii"))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def leave() -> NoReturn:
    """End at once: all is said, or nobody listens any more."""
    os._exit(0)


def stdin_ended(seconds: float) -> bool:
    """Wait so long, or less: tell whether pi has gone. It sends nothing after the request."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 4096)

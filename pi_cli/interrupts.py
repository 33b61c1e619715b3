"""What Ctrl+C does: while a command runs, clean up; before and after it, exit silently."""

import os
import signal
from types import FrameType


def leave_at_once() -> None:
    """From now on, exit immediately on Ctrl+C: nothing was started yet, or everything is done."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # else the parent process wants Ctrl+C to be ignored
        signal.signal(signal.SIGINT, _leave)


def clean_up() -> None:
    """From now on, raise `KeyboardInterrupt` on Ctrl+C: everything that is open cleans up after itself."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)

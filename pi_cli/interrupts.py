"""What Ctrl+C does to pi itself: while a command works it cleans up, before and after it ends pi without a word."""

import os
import signal
from types import FrameType


def leave_at_once() -> None:
    """Let Ctrl+C end pi where it stands from now on: nothing is begun yet, or all is done."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # whoever started us may want us to ignore it
        signal.signal(signal.SIGINT, _leave)


def clean_up() -> None:
    """Let Ctrl+C raise `KeyboardInterrupt` from now on, which whatever is open answers to."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)

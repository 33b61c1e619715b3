"""Where pi begins and ends, as `pi` and as `python -m pi_cli`."""

import gc
import os
import sys
from typing import NoReturn

from pi_cli import interrupts

# Objects made before Python looks for garbage among them. It does so from 700 on, forty times while pi is loaded, and
# finds none: `import asyncssh` takes 126 instead of 161 ms with this and without Python's own end, openai 397 of 483.
MANY = 100_000


def run() -> NoReturn:
    """Run pi. Loading it takes a moment, in which Ctrl+C ends it as quietly as later."""
    interrupts.leave_at_once()
    gc.set_threshold(MANY)
    from pi_cli.commands.main import main

    try:
        main()
    except SystemExit as end:
        _end(end.code if isinstance(end.code, int) else int(end.code is not None))


def _end(code: int) -> NoReturn:
    """End at once: to take everything down that was loaded, as Python does, takes longer than to load it took.

    All is closed by now but for the two streams, unless whoever started us has closed those. Who reads them may have
    gone, which is no news to them.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or 1
        except OSError as error:
            if not code:  # else it has been said
                os.write(2, f"error: the output could not be written: {error.strerror}\n".encode())
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    run()

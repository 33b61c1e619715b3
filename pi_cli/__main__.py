"""Where pi begins and ends, as `pi` and as `python -m pi_cli`."""

from pi_cli import interrupts

interrupts.leave_at_once()  # before anything else: even `typing` takes longer to load than Python takes to start

import gc  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from typing import NoReturn  # noqa: E402

# Objects made before Python looks for garbage among them. It does so from 700 on, forty times while pi is loaded, and
# finds none: `import asyncssh` takes 126 instead of 161 ms with this and without Python's own end, openai 397 of 483.
MANY = 100_000


def run() -> NoReturn:
    """Run pi. Loading it takes a moment, in which Ctrl+C ends it as quietly as later."""
    gc.set_threshold(MANY)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # whoever started us has closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - to the end
    from pi_cli.commands.main import main

    try:
        main()
    except SystemExit as end:
        _end(end.code if isinstance(end.code, int) else int(end.code is not None))


def _end(code: int) -> NoReturn:
    """End at once: to take everything down that was loaded, as Python does, takes longer than to load it took.

    All is closed by now but for the two streams. Who reads them may have gone, which is no news to them.
    """
    for stream in (sys.stdout, sys.stderr):
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

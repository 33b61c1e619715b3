"""The entry point of pi, as `pi` and as `python -m pi_cli`."""

import os

try:
    from pi_cli import interrupts

    interrupts.leave_at_once()  # before any other import: even `typing` takes longer to load than Python takes to start
except KeyboardInterrupt:
    os._exit(130)

import gc
import sys
from typing import NoReturn

# Number of new objects that starts a garbage collection. Python's default is 700: forty collections while pi is loaded,
# which find nothing. With this, and without Python's own shutdown, `import asyncssh` takes 126 ms instead of 161.
GC_THRESHOLD = 100_000


def run() -> NoReturn:
    """Run pi. Ctrl+C while pi is still loading exits as silently as later."""
    gc.set_threshold(GC_THRESHOLD)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - stays open until pi exits
    _require_unix()
    if not (sys.stdout.encoding == sys.stderr.encoding == "utf-8"):
        from pi_cli import streams

        streams.accept_every_character()
    from pi_cli.commands.main import main

    try:
        main()
    except SystemExit as end:
        _end(end.code if isinstance(end.code, int) else int(end.code is not None))


def _require_unix() -> None:
    """Exit with what to do on Windows, where no command of pi can run: its terminals, locks and signals are others."""
    try:
        import fcntl  # noqa: F401
        import termios  # noqa: F401
        from signal import SIGHUP  # noqa: F401
    except ImportError:
        sys.stderr.write(
            "error: pi needs Linux or macOS, or WSL on Windows\n"
            "hint: install WSL with `wsl --install`, then install and run pi in its terminal\n"
        )
        _end(1)


def _end(code: int) -> NoReturn:
    """Exit immediately: Python's own shutdown, which frees every module, takes longer than loading them.

    Only the two streams are still open. If their reader has closed its end, that is not reported.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or 1
        except OSError as error:
            if not code:  # else the error was reported already
                os.write(2, f"error: the output could not be written: {error.strerror}\n".encode())
            code = code or 1
    if shadow := sys.modules.get("pi_cli.hold.shadow"):
        shadow.begin()
    os._exit(code)


if __name__ == "__main__":
    run()

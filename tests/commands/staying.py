"""A command that stays: what it says is read while it runs."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from tests.forkserver import FORKSERVER, Process
from tests.until import until


class Staying:
    """A pi that runs; `out` and `err` are the lines it has printed so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []

    def says(self, words: str, *, times: int = 1) -> str:
        """Wait until stderr has so many lines with these words, and return the last of them."""
        until(lambda: len(self._with(words)) >= times, f"{words!r} is said {times} times, in {self.err}")
        return self._with(words)[times - 1]

    def prints(self, count: int = 1) -> list[str]:
        """Wait until stdout has so many lines, and return them."""
        until(lambda: len(self.out) >= count, f"{count} lines are printed, as in {self.out}; stderr: {self.err}")
        return self.out[:count]

    def end(self, number: int, *, timeout: float = 10) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def _with(self, words: str) -> list[str]:
        return [line for line in self.err if words in line]


@contextmanager
def staying(*words: str, **environ: str) -> Iterator[Staying]:
    """Run pi while the block runs, and then kill what is left of it and of the command that it runs.

    It has a session of its own: in the foreground of a terminal, `pi run` leaves Ctrl+C to the terminal.
    """
    with FORKSERVER.start(words, own_session=True, environ=os.environ | environ) as process:
        stays = Staying(process)
        assert process.stdout
        assert process.stderr
        readers = [
            threading.Thread(target=_read, args=each)
            for each in ((process.stdout, stays.out), (process.stderr, stays.err))
        ]
        for reader in readers:
            reader.start()
        try:
            yield stays
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for reader in readers:
                reader.join(10)


def _read(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))  # noqa: PERF401 - each at once

"""The log format of vLLM 0.32: process, level, time, source, text."""

import os
import sys
import time
from typing import TextIO


class LogWriter:
    """Writes the log of one process. vLLM's own lines go to stdout; bars, tracebacks and uvicorn's lines to stderr."""

    def __init__(self, process: str, pid: int | None = None) -> None:
        self.prefix = f"({process} pid={pid or os.getpid()}) "
        self.unlogged: frozenset[str] = frozenset()  # paths whose requests are not logged

    def info(self, source: str, text: str) -> None:
        self._say("INFO", source, text, sys.stdout)

    def warning(self, source: str, text: str) -> None:
        self._say("WARNING", source, text, sys.stdout)

    def error(self, source: str, text: str) -> None:
        """Write a text of several lines, each with the whole prefix."""
        for line in text.split("\n"):
            self._say("ERROR", source, line, sys.stdout)

    def uvicorn(self, text: str) -> None:
        self.raw(f"INFO:     {text}")

    def access(self, path: str, text: str) -> None:
        if path in self.unlogged:
            return
        self.raw(f"INFO:     {text}", stream=sys.stdout)

    def raw(self, text: str, *, stream: TextIO | None = None) -> None:
        """Write text that is not a log record as vLLM does, with the process before each line."""
        stream = stream or sys.stderr
        stream.write("".join(f"{self.prefix}{line}\n" for line in text.split("\n")))
        stream.flush()

    def _say(self, level: str, source: str, text: str, stream: TextIO) -> None:
        stream.write(f"{self.prefix}{level} {time.strftime('%m-%d %H:%M:%S')} [{source}] {text}\n")
        stream.flush()
